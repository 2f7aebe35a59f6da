//! Settings with a few wrong bytes, made as the tests of the format's parsers make theirs.

#[path = "../../../../tests/tests/fuzz/mutate.rs"]
mod mutate;

use self::mutate::{Chance, mutate};
use super::{Config, known::tests::every_key};

/// The least that a person writes.
const SHORT: &str = r#"
[[site]]
name = "one"
address = "/srv/one"
[[dataset]]
name = "land"
path = "/land"
"#;

/// No panic; and whoever reads a refusal knows which file is meant.
#[test]
fn nearly_good_settings_are_read_or_refused_by_name() {
    let seeds = [every_key().into_bytes(), SHORT.into()];
    let mut accepted = 0;
    for number in 0..3000 {
        let Ok(text) = String::from_utf8(mutate(&mut Chance(number), &seeds)) else {
            continue;
        };
        match Config::parse(&text, Some("/nowhere/f".into())) {
            Ok(_) => accepted += 1,
            Err(error) => assert!(error.to_string().starts_with("/nowhere/f"), "input {number}: {error}"),
        }
    }
    assert!(accepted > 100, "{accepted} accepted");
}
