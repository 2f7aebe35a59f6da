//! Parts as QR codes: on a page, and in a terminal.

use qrcode::{
    EcLevel, QrCode,
    render::{svg, unicode},
};

use crate::{
    card::escaped,
    error::{Context as _, Trouble},
};

const HEAD: &str = include_str!("page.html");

/// A seventh of the surface may be damaged: a screen that is filmed is mostly clean, and larger codes are read worse.
fn code(line: &str) -> Result<QrCode, Trouble> {
    QrCode::with_error_correction_level(line.as_bytes(), EcLevel::M)
        .because(|| Trouble::failed("a part fits no QR code: --part-bytes makes smaller ones"))
}

/// What people see of a part: the beginning of its set's name, its number, how many there are.
fn caption(line: &str) -> (&str, u32, u32) {
    let mut fields = line.split('/').skip(1);
    let set = fields.next().unwrap_or_default();
    let mut number = || fields.next().and_then(|text| text.parse().ok()).unwrap_or_default();
    (set.get(..8).unwrap_or(set), number(), number())
}

/// A page with a code for each part, two in a row on paper. It asks no other machine for anything.
pub fn page(what: &str, lines: &[String]) -> Result<String, Trouble> {
    let mut figures = String::new();
    for line in lines {
        let image = code(line)?.render::<svg::Color<'_>>().min_dimensions(400, 400).build();
        // Inside a page there is no XML declaration.
        let start = image.find("<svg").unwrap_or_default();
        let (set, number, count) = caption(line);
        figures.push_str(&format!(
            "<figure id=\"part-{number}\">\n{}\n<figcaption>part <b>{number}</b> of {count}, set {set}</figcaption>\n</figure>\n",
            image.get(start..).unwrap_or_default()
        ));
    }
    let filled = HEAD
        .replace("{{what}}", &escaped(what))
        .replace("{{count}}", &lines.len().to_string());
    Ok(filled.replace("{{parts}}", &figures))
}

/// The codes for a terminal; black on white whatever its own colours are (ECMA-48).
pub fn terminal(lines: &[String]) -> Result<String, Trouble> {
    let mut text = String::new();
    for line in lines {
        let (set, number, count) = caption(line);
        text.push_str(&format!("part {number} of {count}, set {set}\n"));
        for row in code(line)?.render::<unicode::Dense1x2>().build().lines() {
            text.push_str(&format!("\u{1b}[30;107m{row}\u{1b}[0m\n"));
        }
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::{PAGE_PART_BYTES, TERMINAL_PART_BYTES, split};

    #[test]
    fn codes_have_sizes_that_are_read_and_the_page_asks_nobody() {
        let file: Vec<u8> = (0..3000u32).map(|number| (number % 241) as u8).collect();
        let lines = split(&file, PAGE_PART_BYTES).unwrap();
        assert!(lines.iter().all(|line| code(line).unwrap().width() <= 117));
        let small = split(&file, TERMINAL_PART_BYTES).unwrap();
        // Four modules of quiet on each side.
        assert!(small.iter().all(|line| code(line).unwrap().width() + 8 <= 80));
        let page = page("charter <2>", &lines).unwrap();
        assert_eq!(page.matches("<svg").count(), 4);
        assert!(!page.contains("{{") && page.contains("charter &lt;2&gt;"));
        for asking in ["<script", "src=", "@import", "url(", "<link", "href="] {
            assert!(!page.contains(asking), "{asking}");
        }
        assert_eq!(terminal(&small).unwrap().matches("part ").count(), small.len());
    }
}
