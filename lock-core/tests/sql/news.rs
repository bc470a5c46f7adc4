//! Who may share a lock, and who is told of a release.

use super::*;
use lock_core::sql::mysql;
use lock_core::{ClaimError, News};

fn listen() -> Command {
    Command::Listen { up_to: Duration::from_secs(1) }
}

fn all() -> [Codec; 3] {
    let [postgres, sqlite] = codecs();
    [postgres, sqlite, mysql::codec(TableName::default())]
}

#[test]
fn nobody_may_share_a_row() {
    let name = LockName::new("a").expect("good");
    for codec in all() {
        assert_eq!(codec.check(&name, Mode::Exclusive), Ok(()));
        assert_eq!(codec.check(&name, Mode::Shared), Err(ClaimError::NoShared));
    }
}

#[test]
fn postgres_listens_by_one_statement_for_one_table() {
    let table = TableName::new("ops.locks").expect("good");
    let exchange = postgres::codec(table).encode(&listen(), NOW);
    let sent = statement(&exchange);
    assert!(sent.text.contains("LISTEN") && sent.text.contains(r#"'"ops"."locks"'"#), "{sent:?}");
    assert_eq!(sent.params, []);
    let [postgres, _, _] = all();
    assert_eq!(run(&postgres, &listen(), &[vec![]]), Ok(Reply::Told(News::Begun)));
    let mut exchange = postgres.encode(&listen(), NOW);
    exchange.handle_failure(Failure::Unknown("gone".into()));
    assert_eq!(exchange.finish(), Err(Failure::Unknown("gone".into())));
}

#[test]
fn servers_that_tell_nothing_are_not_asked_to() {
    let [_, sqlite, mysql] = all();
    for codec in [sqlite, mysql] {
        let result = run(&codec, &listen(), &[]);
        assert!(matches!(result, Err(Failure::Unknown(_))), "{result:?}");
    }
}

#[test]
fn to_stop_listening_needs_no_statement() {
    for codec in all() {
        assert_eq!(run(&codec, &Command::Unlisten, &[]), Ok(Reply::Silent));
    }
}
