//! Statements with their parameters in them.

use crate::sql::{Statement, Value};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

/// A statement with its parameters in the places of `$1`, `$2` and so on, so that it can be sent together with
/// others as one text. No parameter can be taken for anything else: a text that is not made of harmless characters is
/// written in hexadecimal.
pub fn inline(statement: &Statement) -> String {
    let mut parts = statement.text.split('$');
    let mut text = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = part.split_at(digits);
        let place = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        match place {
            Some(place) => text += &literal(statement.params.get(place).unwrap_or(&Value::Null)),
            None => text.push('$'),
        }
        text += rest;
    }
    text
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null => "(NULL::int8)".to_string(),
        Value::Int(number) => format!("('{number}'::int8)"),
        Value::Text(text) => quoted(text),
        Value::Texts(texts) => {
            let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            format!("(ARRAY[{}]::text[])", texts.join(", "))
        }
        Value::Ints(numbers) => {
            let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
            format!("('{{{}}}'::bigint[])", numbers.join(","))
        }
    }
}

fn quoted(text: &str) -> String {
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b" .,:()_/-".contains(&b)) {
        return format!("('{text}'::text)");
    }
    let mut hex = String::new();
    for byte in text.bytes() {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    format!("convert_from(decode('{hex}', 'hex'), 'UTF8')")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_put_in_by_their_numbers() {
        let params = [Value::Int(-7), Value::Text("a b".into()), Value::Null];
        let statement = Statement::new("SELECT $2, $1 - $1, $3, '$', $", params);
        let text = "SELECT ('a b'::text), ('-7'::int8) - ('-7'::int8), (NULL::int8), '$', $";
        assert_eq!(inline(&statement), text);
        let many: Vec<Value> = (1..=10).map(Value::Int).collect();
        assert_eq!(inline(&Statement::new("$10$1", many)), "('10'::int8)('1'::int8)");
    }

    #[test]
    fn a_text_stays_a_text() {
        for text in ["it's", "\\", "$1", "\u{1}f", "ß", "\"", "; drop table locks --x;"] {
            let texts = [text.to_string(), "a".to_string()].to_vec();
            let params = [Value::Text(text.to_string()), Value::Texts(texts)];
            let inlined = inline(&Statement::new("$1 $2", params));
            let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
            let one = format!("convert_from(decode('{hex}', 'hex'), 'UTF8')");
            assert_eq!(inlined, format!("{one} (ARRAY[{one}, ('a'::text)]::text[])"));
        }
        assert_eq!(inline(&Statement::new("$1", [Value::Texts(Vec::new())])), "(ARRAY[]::text[])");
        let numbers = [Value::Ints([-7, 8].to_vec()), Value::Ints(Vec::new())];
        assert_eq!(
            inline(&Statement::new("$1 $2", numbers)),
            "('{-7,8}'::bigint[]) ('{}'::bigint[])"
        );
    }
}
