//! Text that came from packets, peers or files, made harmless for the medium that shows it.
//!
//! Every function is total and pure: whatever goes in, what comes out cannot leave its place in the
//! message, command a terminal, ping people or become a link. [`plain`] comes first for every
//! medium; the others then deal with what the medium itself gives a meaning.

use std::fmt::Write as _;

/// Shown for what was cut off.
const ELLIPSIS: char = '…';

/// One line without control characters and without those that turn the direction of writing or are
/// invisible: they are shown as `\u{..}`.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, character| {
        if character.is_control() || is_deceptive(character) {
            // Writing to a String cannot fail.
            let _ = write!(safe, "\\u{{{:x}}}", u32::from(character));
        } else {
            safe.push(character);
        }
        safe
    })
}

/// Characters that make text look like other text.
fn is_deceptive(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// At most `limit` characters, the last of them an ellipsis if any were cut.
#[must_use]
pub fn cut(text: &str, limit: usize) -> String {
    if text.chars().nth(limit).is_none() {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(limit.saturating_sub(1)).collect();
    if limit > 0 {
        kept.push(ELLIPSIS);
    }
    kept
}

/// Escapes `text`, shortened so that the escaped form has at most `limit` characters. An escape
/// sequence is never cut in two.
#[must_use]
pub fn fit(text: &str, limit: usize, escape: fn(&str) -> String) -> String {
    let whole = escape(text);
    if whole.chars().nth(limit).is_none() {
        return whole;
    }
    let mut fitted = String::new();
    let mut length = 0;
    let mut buffer = [0; 4];
    for character in plain(text).chars() {
        let piece = escape(character.encode_utf8(&mut buffer));
        let width = piece.chars().count();
        if length + width + 1 > limit {
            break;
        }
        fitted.push_str(&piece);
        length += width;
    }
    if limit > 0 {
        fitted.push(ELLIPSIS);
    }
    fitted
}

/// For Slack's mrkdwn: `& < >` as entities, so that nothing is a link, a mention or a command. What
/// formats text is kept from it by a word joiner in front.
#[must_use]
pub fn slack(text: &str) -> String {
    plain(text).chars().fold(String::with_capacity(text.len()), |mut safe, character| {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '*' | '_' | '~' | '`' => {
                safe.push('\u{2060}');
                safe.push(character);
            }
            other => safe.push(other),
        }
        safe
    })
}

/// For Discord's Markdown: a backslash before everything that has a meaning there. Links are taken
/// apart at their colon. Mentions do not ping: requests say so beside the text.
#[must_use]
pub fn discord(text: &str) -> String {
    let plain = plain(text);
    let mut safe = String::with_capacity(plain.len() + 8);
    for character in plain.chars() {
        if matches!(
            character,
            '\\' | '*'
                | '_'
                | '~'
                | '`'
                | '|'
                | '>'
                | '<'
                | '#'
                | '-'
                | '+'
                | '['
                | ']'
                | '('
                | ')'
                | '@'
                | ':'
                | '/'
        ) {
            safe.push('\\');
        }
        safe.push(character);
    }
    safe
}

/// For HTML, in text and in quoted attributes.
#[must_use]
pub fn html(text: &str) -> String {
    plain(text).chars().fold(String::with_capacity(text.len()), |mut safe, character| {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
        safe
    })
}

/// For the value of a parameter of structured data (RFC 5424 §6.3.3).
#[must_use]
pub fn syslog_value(text: &str) -> String {
    plain(text).chars().fold(String::with_capacity(text.len()), |mut safe, character| {
        if matches!(character, '"' | '\\' | ']') {
            safe.push('\\');
        }
        safe.push(character);
        safe
    })
}

/// For an argument of a program: without NUL, and never mistaken for an option.
#[must_use]
pub fn argument(text: &str) -> String {
    let text = plain(text);
    match text.strip_prefix('-') {
        Some(rest) => format!("_{rest}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOSTILE: &[&str] = &[
        "",
        "<!channel> <@U123> <http://evil|here>",
        "@everyone @here <@&1>",
        "*b* _i_ ~s~ `c` ```block```",
        "[text](https://evil)",
        "https://evil.example/?a=1&b=2",
        "a\r\nBcc: victim@example.com",
        "\u{1b}[2J\u{9b}31m",
        "\u{202e}gnp.exe",
        "a\0b",
        "<script>alert('x')</script>\" onload=\"x",
        "] [x@1 a=\"b\"] \\",
        "-rf",
        "{{ secret }} {% raw %}",
        "\u{feff}\u{200b}\u{2066}x\u{e0041}",
    ];

    fn harmless(medium: &str, safe: &str) {
        assert!(!safe.chars().any(char::is_control), "{medium}: {safe:?}");
        assert!(!safe.contains(['\u{202e}', '\u{200b}', '\u{feff}']), "{medium}: {safe:?}");
    }

    /// Whether every one of `marks` has a backslash before it that is not escaped itself.
    fn all_escaped(safe: &str, marks: &[char]) -> bool {
        let mut escaped = false;
        safe.chars().all(|character| {
            let good = escaped || character == '\\' || !marks.contains(&character);
            escaped = character == '\\' && !escaped;
            good
        }) && !escaped
    }

    fn check(text: &str) {
        harmless("plain", &plain(text));
        let safe = slack(text);
        harmless("slack", &safe);
        assert!(!safe.contains(['<', '>']), "{safe:?}");
        let entities = ["&amp;", "&lt;", "&gt;"];
        assert!(
            safe.match_indices('&').all(|(at, _)| entities
                .iter()
                .any(|entity| safe.get(at..).is_some_and(|rest| rest.starts_with(entity)))),
            "{safe:?}"
        );
        let safe = discord(text);
        harmless("discord", &safe);
        assert!(all_escaped(&safe, &['*', '_', '`', '~', '|', '<', '@', '[', ':']), "{safe:?}");
        let safe = html(text);
        harmless("html", &safe);
        assert!(!safe.contains(['<', '>', '"', '\'']), "{safe:?}");
        let safe = syslog_value(text);
        harmless("syslog", &safe);
        assert!(all_escaped(&safe, &['"', ']']), "{safe:?}");
        let safe = argument(text);
        harmless("argument", &safe);
        assert!(!safe.starts_with('-'), "{safe:?}");
    }

    #[test]
    fn hostile_text_stays_in_its_place() {
        for text in HOSTILE {
            check(text);
        }
    }

    #[test]
    fn ordinary_text_stays_readable() {
        let text = "dns-amplification on 203.0.113.7";
        assert_eq!(plain(text), text);
        assert_eq!(slack(text), text);
        assert_eq!(html(text), text);
        assert_eq!(discord("a_b"), "a\\_b");
        assert_eq!(plain("a\nb"), "a\\u{a}b");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(fit("a&b&c", 8, html), "a&amp;b…");
    }

    proptest! {
        #[test]
        fn any_text_stays_in_its_place(text in "\\PC*|.*|(?s).{0,40}[<>&@*_`\"\\]\\\\:-].{0,40}") {
            check(&text);
        }

        #[test]
        fn what_is_fitted_fits(text in ".*", limit in 0_usize..60) {
            for escape in [plain, slack, discord, html, syslog_value] {
                let fitted = fit(&text, limit, escape);
                prop_assert!(fitted.chars().count() <= limit, "{fitted:?}");
            }
            prop_assert!(cut(&text, limit).chars().count() <= limit);
        }
    }
}
