//! SPDX licence expressions (SPDX 2.3 annex D; `/` is crates' older way to say OR).

use std::collections::BTreeSet;

/// Whether what is allowed suffices for an expression.
pub fn permitted(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    let answer = any(&mut rest, allowed);
    assert!(
        rest.is_empty() && !tokens.is_empty(),
        "not a licence expression: {expression:?}"
    );
    answer
}

/// `a OR b`: the weaker bond.
fn any(rest: &mut &[&str], allowed: &BTreeSet<&str>) -> bool {
    let mut answer = all(rest, allowed);
    while take(rest, "OR") {
        answer |= all(rest, allowed);
    }
    answer
}

/// `a AND b`.
fn all(rest: &mut &[&str], allowed: &BTreeSet<&str>) -> bool {
    let mut answer = one(rest, allowed);
    while take(rest, "AND") {
        answer &= one(rest, allowed);
    }
    answer
}

/// A licence, with its exception, or an expression in parentheses.
fn one(rest: &mut &[&str], allowed: &BTreeSet<&str>) -> bool {
    if take(rest, "(") {
        let answer = any(rest, allowed);
        assert!(take(rest, ")"), "a parenthesis isn't closed");
        return answer;
    }
    let (licence, others) = rest.split_first().unwrap();
    *rest = others;
    if take(rest, "WITH") {
        let (exception, others) = rest.split_first().unwrap();
        *rest = others;
        return allowed.contains(format!("{licence} WITH {exception}").as_str());
    }
    allowed.contains(licence)
}

fn take(rest: &mut &[&str], token: &str) -> bool {
    match rest.split_first() {
        Some((first, others)) if *first == token => {
            *rest = others;
            true
        }
        _ => false,
    }
}

#[test]
fn expressions_mean_what_spdx_says() {
    let allowed = BTreeSet::from(["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]);
    for (expression, answer) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("MIT AND GPL-3.0 OR ISC", true),
        ("MIT AND (GPL-3.0 OR ISC)", true),
        ("(MIT AND GPL-3.0) AND ISC", false),
        ("Apache-2.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
    ] {
        assert_eq!(permitted(expression, &allowed), answer, "{expression}");
    }
}
