//! A custodian's card: one page of HTML with everything that a ceremony needs, to be printed and locked away.
//!
//! The page is a template with `{{names}}`. English and German are compiled in; `--template FILE` takes another, for another
//! language. It holds no script and no address that a browser would ask, prints in black on A4 and Letter, and says
//! nothing by colour.

use std::collections::BTreeMap;

use clap::ValueEnum;
use exclave_model::{Custodian, CustodianGroup, ShareSet};
use exclave_seal::{Share, share::Form};
use qrcode::{
    EcLevel, QrCode,
    render::{svg, unicode},
};
use zeroize::Zeroizing;

use crate::error::{Context as _, Trouble};

/// A language that a card is compiled in for. The share's words are English in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// English
    En,
    /// German
    De,
}

impl Language {
    /// The card's template.
    pub const fn template(self) -> &'static str {
        match self {
            Self::En => include_str!("card.html"),
            Self::De => include_str!("card.de.html"),
        }
    }
}

/// What a card says beside the share.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The archive's anchor, when the key belongs to one.
    pub archive: Option<String>,
    /// Names, addresses and pins of the sites.
    pub sites: Vec<[String; 3]>,
    /// Names and SHA-256 of what a stranger needs to restore.
    pub kit: Vec<[String; 2]>,
    /// Datasets' ids and newest heads.
    pub heads: Vec<[String; 2]>,
    /// The day.
    pub date: String,
}

/// One card.
pub struct Card<'a> {
    /// The set.
    pub set: &'a ShareSet,
    /// The custodian's group.
    pub group: &'a CustodianGroup,
    /// Who gets it.
    pub custodian: &'a Custodian,
    /// How to reach him.
    pub contact: &'a str,
    /// The share.
    pub share: &'a Share,
    /// What else it says.
    pub surroundings: &'a Surroundings,
}

impl Card<'_> {
    /// The page.
    pub fn render(&self, template: &str) -> Result<Zeroizing<String>, Trouble> {
        let (set, header) = (self.set, self.share.header());
        let Surroundings {
            archive,
            sites,
            kit,
            heads,
            date,
        } = self.surroundings;
        let absent = || "—".to_owned();
        let text: BTreeMap<&str, String> = [
            ("custodian", self.custodian.name.clone()),
            ("body", self.custodian.body.to_string()),
            ("contact", self.contact.to_owned()),
            ("group", self.group.name.clone()),
            ("x", header.place.x.to_string()),
            ("m", header.custodians.to_string()),
            ("t", header.threshold.to_string()),
            ("needed", set.in_words()),
            ("set", set.id.to_hex()),
            ("epoch", set.epoch.to_string()),
            ("recipient", grouped(&set.recipient.to_hex())),
            ("archive", archive.as_deref().map_or_else(absent, grouped)),
            ("date", date.clone()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ]
        .into();
        let mut html: BTreeMap<&str, Zeroizing<String>> = text
            .into_iter()
            .map(|(name, text)| (name, Zeroizing::new(escaped(&text))))
            .collect();
        html.insert("sites", rows(sites));
        html.insert("kit", rows(kit));
        html.insert("heads", rows(heads));
        html.insert("words", lines(&self.share.to_text(Form::Words)));
        html.insert("digits", lines(&self.share.to_text(Form::Digits)));
        html.insert("qr", svg(self.share)?);
        filled(template, &html)
    }
}

/// What a card is for: without one of the first two nobody could type the share, and without the others nobody could
/// tell whose it is and of which archive.
const NEEDED: [&str; 5] = ["custodian", "archive", "set", "x", "recipient"];

/// Whether a template makes a card of use.
pub fn check_template(template: &str) -> Result<(), Trouble> {
    let has = |name: &str| {
        let mut parts = template.split("{{").skip(1);
        parts.any(|part| part.split_once("}}").is_some_and(|(found, _)| found.trim() == name))
    };
    let missing = NEEDED.iter().copied().find(|name| !has(name));
    let missing = missing.or_else(|| (!has("words") && !has("digits")).then_some("words"));
    match missing {
        None => Ok(()),
        Some(name) => Err(
            Trouble::usage(format!("the card's template has no place for {{{{{name}}}}}"))
                .hint("`words` or `digits`, and custodian, archive, set, x and recipient must be on every card"),
        ),
    }
}

/// Puts values in the place of `{{names}}`. A name that isn't known is an error, so that a mistyped one is noticed.
fn filled(template: &str, values: &BTreeMap<&str, Zeroizing<String>>) -> Result<Zeroizing<String>, Trouble> {
    let length = template.len() + values.values().map(|value| 2 * value.len()).sum::<usize>();
    let mut page = Zeroizing::new(String::with_capacity(length));
    let mut parts = template.split("{{");
    page.push_str(parts.next().unwrap_or_default());
    for part in parts {
        // A name without an end is none that is known.
        let (name, rest) = part.split_once("}}").unwrap_or(("{{ without }}", ""));
        let value = values.get(name.trim()).ok_or_else(|| {
            let known: Vec<&str> = values.keys().copied().collect();
            let name: String = name.chars().take(40).collect();
            Trouble::usage(format!(
                "the card's template asks for {{{{{name}}}}}, which there is not"
            ))
            .hint(format!("there are {}", known.join(", ")))
        })?;
        page.push_str(value);
        page.push_str(rest);
    }
    Ok(page)
}

/// The share as a QR code of its 150 digits, which a fifth of the surface may be damaged of.
fn code(share: &Share) -> Result<QrCode, Trouble> {
    let text = share.to_text(Form::Digits);
    let mut digits = Zeroizing::new(String::with_capacity(text.len()));
    digits.extend(text.chars().filter(char::is_ascii_digit));
    QrCode::with_error_correction_level(digits.as_bytes(), EcLevel::Q)
        .because(|| Trouble::failed("the share fits no QR code"))
}

/// The QR code as an image.
pub fn svg(share: &Share) -> Result<Zeroizing<String>, Trouble> {
    let image = Zeroizing::new(code(share)?.render::<svg::Color<'_>>().module_dimensions(4, 4).build());
    // Inside a page there is no XML declaration.
    let start = image.find("<svg").unwrap_or_default();
    Ok(Zeroizing::new(image.get(start..).unwrap_or_default().to_owned()))
}

/// The QR code for a terminal, two modules a character; black on white whatever the terminal's own colours are (ECMA-48),
/// since not every camera reads an inverted code.
pub fn terminal(share: &Share) -> Result<Zeroizing<String>, Trouble> {
    let code = Zeroizing::new(code(share)?.render::<unicode::Dense1x2>().build());
    // Room for the frames of all lines, so that nothing is copied about.
    let mut text = Zeroizing::new(String::with_capacity(2 * code.len()));
    for line in code.lines() {
        text.push_str("\u{1b}[30;107m");
        text.push_str(line);
        text.push_str("\u{1b}[0m\n");
    }
    Ok(text)
}

/// Rows of a table.
fn rows<const N: usize>(items: &[[String; N]]) -> Zeroizing<String> {
    let cell = |text: &String| format!("<td>{}</td>", escaped(text));
    let row = |item: &[String; N]| format!("<tr>{}</tr>\n", item.iter().map(cell).collect::<String>());
    let empty = || format!("<tr>{}</tr>\n", "<td>—</td>".repeat(N));
    Zeroizing::new(match items.is_empty() {
        true => empty(),
        false => items.iter().map(row).collect(),
    })
}

/// Numbered rows of a share's text, a cell for each word or group.
fn lines(text: &str) -> Zeroizing<String> {
    let mut html = Zeroizing::new(String::with_capacity(text.len() * 12));
    for (number, line) in (1..).zip(text.lines()) {
        html.push_str(&format!("<tr><th>{number}</th>"));
        for word in line.split(' ') {
            html.push_str("<td>");
            html.push_str(word);
            html.push_str("</td>");
        }
        html.push_str("</tr>\n");
    }
    html
}

/// Hex in groups of eight, so that a person can compare it.
fn grouped(digits: &str) -> String {
    let groups: Vec<&str> = digits
        .as_bytes()
        .chunks(8)
        .filter_map(|group| std::str::from_utf8(group).ok())
        .collect();
    groups.join(" ")
}

/// Text for HTML.
pub fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            letter if letter.is_control() => html.push(' '),
            letter => html.push(letter),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use exclave_model::Body;
    use exclave_seal::{
        RecoveryIdentity, SeededEntropy,
        share::{GroupPlan, SplitPlan, split},
    };

    use super::*;

    fn a_set() -> (ShareSet, Vec<Share>) {
        let mut entropy = SeededEntropy::new(5);
        let identity = RecoveryIdentity::generate(&mut entropy).unwrap();
        let names = ["Office <1>", "Office & 2", "Office \"3\""];
        let group = GroupPlan {
            name: "offices".to_owned(),
            threshold: 2,
            custodians: names.map(|name| (name.to_owned(), Body::National)).to_vec(),
        };
        let plan = SplitPlan {
            threshold: 1,
            groups: vec![group],
            previous: None,
        };
        split(&identity, &plan, &mut entropy).unwrap()
    }

    #[test]
    fn a_card_holds_what_a_ceremony_needs_and_asks_nobody() {
        let (set, shares) = a_set();
        let surroundings = Surroundings {
            archive: Some("ab".repeat(32)),
            sites: vec![["oslo".to_owned(), "s3://bucket/<x>".to_owned(), "—".to_owned()]],
            ..Surroundings::default()
        };
        let card = Card {
            set: &set,
            group: &set.groups[0],
            custodian: &set.groups[0].custodians[0],
            contact: "+47 1",
            share: &shares[0],
            surroundings: &surroundings,
        };
        for language in [Language::En, Language::De] {
            check_template(language.template()).unwrap();
        }
        let german = card.render(Language::De.template()).unwrap();
        assert!(german.contains("Treuhänder") && !german.contains("{{") && !german.contains("Custodian"));
        let page = card.render(Language::En.template()).unwrap();
        assert!(!page.contains("{{") && !page.contains("Office <1>") && page.contains("Office &lt;1&gt;"));
        assert!(
            page.contains("s3://bucket/&lt;x&gt;") && page.contains(&"abababab ".repeat(7)) && page.contains("<svg")
        );
        for form in [Form::Words, Form::Digits] {
            let text = shares[0].to_text(form);
            assert!(
                text.split_whitespace()
                    .all(|word| page.contains(&format!("<td>{word}</td>")))
            );
        }
        for asking in ["<script", "src=", "@import", "url(", "<link", "href="] {
            assert!(!page.contains(asking), "{asking}");
        }
        let error = card.render("{{custodian}} {{no such}}").unwrap_err();
        assert!(error.to_string().contains("{{no such}}"), "{error}");
        assert!(card.render("{{custodian").is_err());
    }

    /// The QR code is read back module by module: it is that of the digits, and one share's differs from another's.
    #[test]
    fn the_code_is_drawn_alike_for_paper_and_terminal() {
        let (_, shares) = a_set();
        let drawn = svg(&shares[0]).unwrap();
        assert!(drawn.starts_with("<svg") && drawn.ends_with("</svg>"));
        let of_digits = code(&shares[0]).unwrap();
        assert!(of_digits.width() <= 45, "{}", of_digits.width());
        let lines = terminal(&shares[0]).unwrap();
        assert_eq!(lines.lines().count(), (of_digits.width() + 8).div_ceil(2));
        assert_ne!(*drawn, *svg(&shares[1]).unwrap());
    }
}
