//! Names of locks and tables.

use lock_core::{LockName, TableName};

/// Makes a name of any text. The name must be equal to the text, or an error.
pub fn names(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(name) = LockName::new(&text) {
        assert_eq!(name.as_str(), text);
        assert!(!text.is_empty() && text.len() <= 255 && !text.contains(char::is_control));
    }
    if let Ok(table) = TableName::new(&text) {
        assert!(
            table
                .quoted()
                .trim_matches('"')
                .replace("\".\"", "")
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_')
        );
    }
}
