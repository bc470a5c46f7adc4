//! Servers without TLS, where TLS is wanted: nothing secret is said to them.

use crate::stalled::greeting;
use lock_sync::Error;
use lock_tests::drivers::{Driver, connect};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// A server that speaks first, and says that it has no TLS. Each client's bytes are told when that client is gone.
fn impostor(first: Vec<u8>, answer: &'static [u8]) -> (String, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let place = listener.local_addr().expect("bound").to_string();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (tell, first) = (tell.clone(), first.clone());
            std::thread::spawn(move || {
                let _ = stream.write_all(&first);
                let (mut said, mut buffer) = (Vec::new(), [0; 1024]);
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    said.extend_from_slice(&buffer[..count]);
                    // Only what asks for TLS is answered.
                    if !answer.is_empty() && said.len() == 8 {
                        let _ = stream.write_all(answer);
                    } else {
                        break;
                    }
                }
                let _ = tell.send(said);
            });
        }
    });
    (place, told)
}

#[test]
fn a_server_without_tls_is_told_no_user_and_no_password() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, crate::stalled::AUTHORITY).expect("written");
    let ca = format!("sslrootcert={}", authority.display());
    let full = format!("sslmode=verify-full&{ca}");
    let (mysql, postgres) = (impostor(greeting(false), b""), impostor(Vec::new(), b"N"));
    for (scheme, (place, told), modes) in [
        ("mysql", &mysql, &["sslmode=require", &ca, &full][..]),
        ("mariadb", &mysql, &["sslmode=require", &ca, &full]),
        ("postgres", &postgres, &["sslmode=require", &ca, "sslmode=verify-ca", &full]),
    ] {
        for driver in [Driver::Blocking, Driver::Tokio] {
            for protocol in ["table", "advisory"] {
                for mode in modes {
                    // PostgreSQL's `sslrootcert` alone means `prefer` on this machine.
                    if scheme == "postgres" && *mode == ca {
                        continue;
                    }
                    let parameters = format!("protocol={protocol}&{mode}");
                    let url = format!("{scheme}://hunter2:hunter3@{place}/hunter4?{parameters}");
                    let refused = connect(driver, &url).map(drop);
                    assert!(
                        matches!(refused, Err(Error::Refused(_))),
                        "{driver:?}, {url}: {refused:?}"
                    );
                    let said = told.recv_timeout(LONG).expect("it ends");
                    let said = String::from_utf8_lossy(&said);
                    assert!(!said.contains("hunter"), "{driver:?}, {url}: {said:?}");
                }
            }
        }
    }
    // It would be told, by a client that may: `prefer` on this machine, perhaps over another connection.
    for (scheme, (place, told)) in [("mysql", mysql), ("postgres", postgres)] {
        for driver in [Driver::Blocking, Driver::Tokio] {
            for mode in ["sslmode=disable", "sslmode=prefer"] {
                let url = format!("{scheme}://hunter2:hunter3@{place}/hunter4?{mode}");
                connect(driver, &url).map(drop).expect_err("no server");
                let is_told = |said: Vec<u8>| String::from_utf8_lossy(&said).contains("hunter2");
                let said = (0..2).any(|_| told.recv_timeout(LONG).is_ok_and(is_told));
                assert!(said, "{driver:?}, {url}");
                while told.try_recv().is_ok() {}
            }
        }
    }
}

/// It stays so until somebody gives it.
#[test]
fn a_password_that_is_missing_is_no_outage() {
    let (place, _told) = impostor(b"R\0\0\0\x08\0\0\0\x03".to_vec(), b"");
    for driver in [Driver::Blocking, Driver::Tokio] {
        let refused = connect(driver, &format!("postgres://u@{place}/d?sslmode=disable")).map(drop);
        let told =
            matches!(&refused, Err(Error::Refused(why)) if why.contains("asks for a password"));
        assert!(told, "{driver:?}: {refused:?}");
    }
}
