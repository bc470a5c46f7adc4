//! URLs of places.

use lock_shared::Config;

/// Reads any URL, and any variables that complete one. There must be no panic, and no secret in the error.
pub fn urls(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let url = format!("postgres://app:hunter2{text}");
    let alone = [text.as_ref(), &url].map(Config::from_url);
    let secret = format!("hunter2{text}");
    // No variable that names a file, which would be read.
    let variable = |name: &str| {
        let value =
            if name.contains("PASSWORD") || name.contains("TOKEN") { &*secret } else { &text };
        (!name.ends_with("FILE") && name != "HOME").then(|| value.into())
    };
    let completed = ["postgres://", "mysql:///d", "consul://", &text];
    let completed = completed.map(|url| Config::from_url_with(url, variable));
    for config in alone.into_iter().chain(completed) {
        if let Err(error) = config {
            let message = error.to_string();
            assert!(!message.contains("hunter2"), "{message}");
            assert!(!message.contains('\n') && message.len() < 1000, "{message}");
        }
    }
}
