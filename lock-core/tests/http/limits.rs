//! How long and how deep an answer may be. What is of no concern in it counts, too.

use super::*;
use lock_core::http::MAX_BODY;

/// A grant with something else in it, four levels deep.
fn with(more: &str) -> Result<Reply, Failure> {
    decode(&lock(), 200, &ours("24").replace(r#""Key""#, &format!(r#""More":{more},"Key""#)))
}

/// Objects in lists in objects, so many levels deep.
fn nested(depth: usize, inner: &str) -> String {
    let (mut before, mut after) = (String::new(), String::new());
    for level in 0..depth {
        before += if level % 2 == 0 { "[" } else { r#"{"x":"# };
        after.insert(0, if level % 2 == 0 { ']' } else { '}' });
    }
    before + inner + &after
}

fn refused(more: &str) {
    let result = with(more);
    assert!(matches!(result, Err(Failure::Unknown(_))), "{more}: {result:?}");
}

#[test]
fn an_answer_is_read_up_to_its_longest() {
    let mut body = ours("24");
    body += &" ".repeat(MAX_BODY - body.len());
    assert!(decode(&lock(), 200, &body).is_ok());
    let result = decode(&lock(), 200, &(body + " "));
    assert!(matches!(result, Err(Failure::Unknown(_))), "{result:?}");
}

#[test]
fn an_answer_is_read_up_to_32_levels() {
    for depth in [0, 1, 27, 28] {
        let more = nested(depth, "null");
        assert!(with(&more).is_ok(), "{more}");
    }
    for depth in [29, 30, 100] {
        refused(&nested(depth, "null"));
    }
}

#[test]
fn what_is_side_by_side_is_not_deep() {
    assert!(with(&format!("[{}1]", "[],{},".repeat(100))).is_ok());
    assert!(with(&format!("[{}1]", r#"[{"x":[]}],"#.repeat(100))).is_ok());
}

#[test]
fn brackets_in_a_text_are_text() {
    let (open, close) = ("[{".repeat(50), "]}".repeat(50));
    for text in [&open, &close, &format!(r#"\"{open}"#), &format!(r#"\\\"{open}"#)] {
        assert!(with(&format!("\"{text}\"")).is_ok(), "{text}");
    }
    // A text that ends in a backslash has ended.
    for text in [&close, &format!(r#"\"{close}"#), r"\\"] {
        let more = nested(20, &format!(r#"["{text}",{}]"#, nested(20, "null")));
        refused(&more);
    }
}
