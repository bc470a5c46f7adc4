//! Files of PostgreSQL's passwords.

use lock_shared::postgres::{Host, password_in};
use std::path::PathBuf;

/// The default folder of PostgreSQL's sockets, which is also `localhost` in the file.
const SOCKETS: [&str; 2] = ["/var/run/postgresql", "/run/postgresql"];

/// Looks up a password in any file. It must be the one that `expected` finds, and a line made of the fields that are looked for must be
/// found, before the file's other lines or after them.
///
/// The first five lines are host, port, database, user and a password, the rest is the file. A host that begins with `/` is a folder.
pub fn pgpass(bytes: &[u8]) {
    let mut parts = bytes.splitn(6, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let mut text = || String::from_utf8_lossy(part()).into_owned();
    let (host, port, database, user) = (text(), text(), text(), text());
    let (password, content) = (part(), part());
    let port = port.parse().unwrap_or(5432);
    let names = names(&host);
    let wanted = |name: &str| [name, &port.to_string(), &database, &user].map(str::to_string);
    let host =
        if host.starts_with('/') { Host::Unix(PathBuf::from(host)) } else { Host::Tcp(host) };
    let find = |content: &[u8]| password_in(content, &host, port, &database, &user);
    let told = |content: &[u8]| {
        let first = names.iter().find_map(|name| expected(content, &wanted(name)));
        first.filter(|password| !password.is_empty())
    };
    assert_eq!(find(content), told(content), "{names:?} {:?}", String::from_utf8_lossy(content));

    // A carriage return at the end belongs to the line's end, and a field cannot have a line's.
    if password.ends_with(b"\r") || password.is_empty() {
        return;
    }
    let line = line(&wanted(&names[0]), password);
    let before = [&line, content].join(&b'\n');
    assert_eq!(find(&before).as_deref(), Some(password), "{:?}", String::from_utf8_lossy(&line));
    let after = [content, &line].join(&b'\n');
    let first = expected(content, &wanted(&names[0])).unwrap_or(password.to_vec());
    assert_eq!(find(&after), Some(first).filter(|password| !password.is_empty()));
}

/// The names that a host has in the file, the first that counts first.
fn names(host: &str) -> Vec<String> {
    match host {
        host if SOCKETS.contains(&host) => vec!["localhost".to_string(), host.to_string()],
        host if host.starts_with('/') => vec![host.to_string(), "localhost".to_string()],
        host => vec![host.to_string()],
    }
}

/// The password in the first line that fits, by a reader of one byte after the other.
fn expected(content: &[u8], wanted: &[String; 4]) -> Option<Vec<u8>> {
    content.split(|byte| *byte == b'\n').find_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut fields = vec![Field::default()];
        let mut bytes = line.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            let is_password = fields.len() > wanted.len();
            let escaped = byte == b'\\' && bytes.peek().is_some();
            if byte == b':' && !is_password {
                fields.push(Field::default());
                continue;
            }
            let field = fields.last_mut().expect("one at least");
            field.is_any = byte == b'*' && field.text.is_empty();
            field.text.push(if escaped { bytes.next().expect("peeked") } else { byte });
        }
        let password = fields.get(wanted.len())?.text.clone();
        let fits = |(field, text): (&Field, &String)| field.is_any || field.text == text.as_bytes();
        (!line.starts_with(b"#") && fields.iter().zip(wanted).all(fits)).then_some(password)
    })
}

/// A field of a line, without its escapes.
#[derive(Default)]
struct Field {
    text: Vec<u8>,
    /// True if it is `*`, which fits anything.
    is_any: bool,
}

/// The line of these fields. A `*` and a `#` are escaped, too, which mean something at the beginning.
fn line(fields: &[String; 4], password: &[u8]) -> Vec<u8> {
    let mut line = Vec::new();
    for field in fields {
        for byte in field.bytes() {
            if b":\\*#".contains(&byte) {
                line.push(b'\\');
            }
            line.push(byte);
        }
        line.push(b':');
    }
    for byte in password {
        if b":\\".contains(byte) {
            line.push(b'\\');
        }
        line.push(*byte);
    }
    line
}
