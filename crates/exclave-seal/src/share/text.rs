//! Shares as people keep them: seven lines of six words, or six lines of five groups of digits.
//!
//! Each line ends with a check of its own (FORMAT.md section 17), which finds every single wrong word or group, every two
//! that changed places, and every line that stands in another's place; so a mistake is told with its line, and a word
//! that isn't in the list with its place in the line and the words that it may be. The list is BIP-39's English one: its
//! words differ in their first four letters. Looking words up is not done in constant time.

use bip39::Language;
use zeroize::Zeroizing;

use super::{BadShare, SHARE_BYTES, Share};

/// How a share is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Words of the list: 11 bits each.
    Words,
    /// Groups of five decimal digits: 16 bits each.
    Digits,
}

/// What is wrong with a typed share. Lines, words and groups count from 1. Of what was typed only near words of the list
/// are told: at most 11 bits of 256, to whoever sits there anyway.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not in the list.
    #[error("line {line}, word {word}: not a word of the list{}", perhaps(.near))]
    Word {
        /// Which line.
        line: usize,
        /// Which word of it.
        word: usize,
        /// Words of the list that differ by one or two letters.
        near: Vec<&'static str>,
    },
    /// Not a group of five digits that a share can hold.
    #[error("line {line}, group {group}: a group is five digits, at most 65535")]
    Group {
        /// Which line.
        line: usize,
        /// Which group of it.
        group: usize,
    },
    /// Good words or groups that don't belong together.
    #[error("line {line}: its check does not fit; a word or group of it is wrong, or two changed places")]
    Line {
        /// Which line.
        line: usize,
    },
    /// A line of another length.
    #[error("line {line}: it has {found} words or groups instead of {wanted}")]
    Count {
        /// Which line.
        line: usize,
        /// How many there are.
        found: usize,
        /// How many there must be.
        wanted: usize,
    },
    /// Something follows the last line.
    #[error("the share is complete, and more follows")]
    TooLong,
    /// Lines are missing.
    #[error("the share ends after {0} lines")]
    TooShort(usize),
    /// The last bit of the words isn't zero.
    #[error("the last line does not end as a share does")]
    Padding,
    /// Good lines that are no share.
    #[error(transparent)]
    Share(#[from] BadShare),
}

impl Form {
    /// Bits of a word or a group.
    const fn bits(self) -> usize {
        match self {
            Self::Words => 11,
            Self::Digits => 16,
        }
    }

    /// Words or groups of a line, its check included.
    pub const fn width(self) -> usize {
        match self {
            Self::Words => 6,
            Self::Digits => 5,
        }
    }

    /// Lines of a share.
    pub const fn lines(self) -> usize {
        match self {
            Self::Words => 7,
            Self::Digits => 6,
        }
    }

    /// The check of a line: its number, then each value, then zero, as digits of a polynomial in 2 over GF(2^11)
    /// modulo x^11 + x^2 + 1, or of a number in base 3 modulo the prime 65,537.
    fn check(self, line: usize, values: &[u16]) -> u32 {
        let next = |sum: u32, value: u32| match self {
            Self::Words => (sum << 1 & 0x7ff) ^ (0x005 & (sum >> 10).wrapping_neg()) ^ value,
            Self::Digits => (sum * 3 + value) % 65_537,
        };
        let values = values.iter().map(|value| u32::from(*value));
        // Lines are at most seven.
        next(values.fold(line as u32, next), 0)
    }

    fn write(self, value: u32, out: &mut String) {
        match self {
            Self::Words => out.push_str(word(value)),
            // Five digits, without an allocation that would stay behind.
            Self::Digits => {
                for power in [10_000, 1_000, 100, 10, 1] {
                    out.push(char::from(b'0' + (value / power % 10) as u8));
                }
            }
        }
    }

    /// Longest text: 8 letters and a separator, or 5 digits and one.
    const fn text_bytes_max(self) -> usize {
        self.lines() * self.width() * 9
    }
}

fn word(value: u32) -> &'static str {
    // A mask of 11 bits: the list has 2,048 words.
    Language::English.word_list()[value as usize & 0x7ff]
}

impl Share {
    /// Its lines: what stands on a custodian's card.
    pub fn to_text(&self, form: Form) -> Zeroizing<String> {
        let bytes = self.to_bytes();
        let mut text = Zeroizing::new(String::with_capacity(form.text_bytes_max()));
        let per_line = form.width() - 1;
        for line in 0..form.lines() {
            let mut values = Zeroizing::new([0u16; 5]);
            let values = &mut values[..per_line];
            for (at, value) in values.iter_mut().enumerate() {
                *value = take_bits(&bytes, (line * per_line + at) * form.bits(), form.bits());
                form.write(u32::from(*value), &mut text);
                text.push(' ');
            }
            form.write(form.check(line + 1, values), &mut text);
            text.push('\n');
        }
        text
    }

    /// Reads a whole share, in either form.
    pub fn from_text(text: &str) -> Result<Self, TextError> {
        let mut entry = Entry::default();
        entry.add(text)?;
        entry.finish()
    }
}

/// `count` bits from bit `at` on; zeros behind the end.
fn take_bits(bytes: &[u8; SHARE_BYTES], at: usize, count: usize) -> u16 {
    (at..at + count).fold(0, |value, bit| {
        let byte = bytes.get(bit / 8).copied().unwrap_or(0);
        value << 1 | u16::from(byte >> (7 - bit % 8) & 1)
    })
}

/// A share that is being typed. Lines that were good stay; a line that was not is typed again.
#[derive(Default)]
pub struct Entry {
    form: Option<Form>,
    /// Words or groups of the good lines, without their checks.
    values: Zeroizing<Vec<u16>>,
}

impl Entry {
    /// The form, once the first line was read.
    pub fn form(&self) -> Option<Form> {
        self.form
    }

    /// Good lines so far.
    pub fn lines(&self) -> usize {
        self.form.map_or(0, |form| self.values.len() / (form.width() - 1))
    }

    /// True when no line is missing.
    pub fn is_complete(&self) -> bool {
        self.form.is_some_and(|form| self.lines() == form.lines())
    }

    /// Takes one line or several; how they are cut does not matter, whole lines do. Those before a bad one stay.
    pub fn add(&mut self, text: &str) -> Result<(), TextError> {
        let Some(first) = text.trim_start().chars().next() else {
            return Ok(());
        };
        let form = *self.form.get_or_insert(match first.is_ascii_digit() {
            true => Form::Digits,
            false => Form::Words,
        });
        self.values.reserve_exact(form.lines() * (form.width() - 1));
        let added = match form {
            Form::Words => {
                let words: Vec<&str> = text.split_whitespace().collect();
                words.chunks(form.width()).try_for_each(|line| self.words(line))
            }
            Form::Digits => {
                let mut digits = Zeroizing::new(Vec::with_capacity(text.len()));
                digits.extend(text.bytes().filter(|byte| !byte.is_ascii_whitespace()));
                digits.chunks(form.width() * 5).try_for_each(|line| self.digits(line))
            }
        };
        if self.values.is_empty() {
            // Nothing was good yet: the next try may be in the other form.
            self.form = None;
        }
        added
    }

    /// The share.
    pub fn finish(self) -> Result<Share, TextError> {
        let (Some(form), true) = (self.form, self.is_complete()) else {
            return Err(TextError::TooShort(self.lines()));
        };
        let mut bytes = Zeroizing::new([0u8; SHARE_BYTES]);
        for (at, value) in self.values.iter().enumerate() {
            for bit in 0..form.bits() {
                let set = (value >> (form.bits() - 1 - bit) & 1) as u8;
                let position = at * form.bits() + bit;
                match bytes.get_mut(position / 8) {
                    Some(byte) => *byte |= set << (7 - position % 8),
                    None if set == 1 => return Err(TextError::Padding),
                    None => {}
                }
            }
        }
        Ok(Share::from_bytes(&bytes)?)
    }

    fn words(&mut self, words: &[&str]) -> Result<(), TextError> {
        let line = self.next_line(Form::Words, words.len())?;
        let mut values = Zeroizing::new([0u16; 6]);
        for ((at, word), value) in (1..).zip(words).zip(values.iter_mut()) {
            let near = || near(word);
            *value = find(word).ok_or_else(|| TextError::Word {
                line,
                word: at,
                near: near(),
            })?;
        }
        self.keep(Form::Words, line, &values[..5], u32::from(values[5]))
    }

    fn digits(&mut self, digits: &[u8]) -> Result<(), TextError> {
        let line = self.next_line(Form::Digits, digits.len().div_ceil(5))?;
        let mut values = Zeroizing::new([0u32; 5]);
        for ((group, digits), value) in (1..).zip(digits.chunks(5)).zip(values.iter_mut()) {
            let number = |sum: u32, digit: &u8| digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0'));
            let read = digits.iter().try_fold(0, number).filter(|_| digits.len() == 5);
            // Only a check can be 65,536.
            let most = if group == 5 { 65_536 } else { 65_535 };
            *value = read
                .filter(|read| *read <= most)
                .ok_or(TextError::Group { line, group })?;
        }
        let mut data = Zeroizing::new([0u16; 4]);
        for (to, from) in data.iter_mut().zip(values.iter()) {
            *to = *from as u16;
        }
        self.keep(Form::Digits, line, &data[..], values[4])
    }

    /// The number of the line that comes next, when there is one and this may be it.
    fn next_line(&self, form: Form, found: usize) -> Result<usize, TextError> {
        let (line, wanted) = (self.lines() + 1, form.width());
        match line > form.lines() {
            true => Err(TextError::TooLong),
            false if found != wanted => Err(TextError::Count { line, found, wanted }),
            false => Ok(line),
        }
    }

    fn keep(&mut self, form: Form, line: usize, values: &[u16], check: u32) -> Result<(), TextError> {
        if form.check(line, values) != check {
            return Err(TextError::Line { line });
        }
        self.values.extend_from_slice(values);
        Ok(())
    }
}

/// The word's place in the list: the word itself or its first four letters, in any case.
fn find(typed: &str) -> Option<u16> {
    let is = |word: &str| {
        let first = word.get(..4).filter(|_| typed.len() == 4);
        typed.eq_ignore_ascii_case(word) || first.is_some_and(|first| typed.eq_ignore_ascii_case(first))
    };
    // The list has 2,048 words.
    let at = Language::English.word_list().iter().position(|word| is(word))?;
    u16::try_from(at).ok()
}

/// The words that are nearest to what was typed: at most three, one or two typing errors away.
fn near(typed: &str) -> Vec<&'static str> {
    let typed = Zeroizing::new(typed.to_ascii_lowercase());
    let words = Language::English.word_list().iter();
    let mut near: Vec<(usize, &'static str)> = words
        .map(|word| (strsim::osa_distance(&typed, word), *word))
        .filter(|(distance, _)| *distance <= 2)
        .collect();
    near.sort_unstable();
    let best = near.first().map_or(0, |(distance, _)| *distance);
    near.retain(|(distance, _)| *distance == best);
    near.truncate(3);
    near.into_iter().map(|(_, word)| word).collect()
}

fn perhaps(near: &[&str]) -> String {
    match near.is_empty() {
        true => String::new(),
        false => format!("; perhaps {}", near.join(" or ")),
    }
}
