//! Addresses of hosts, within a limit.

use lock_shared::lookup::{Answer, late, look_up};
use std::time::Duration;
use tokio::time::timeout;

/// The addresses of `name`, or an error in one line. Takes most of `limit`, and leaves the rest for the
/// connect.
pub(crate) async fn addresses_of(name: &str, port: u16, limit: Duration) -> Answer {
    let found = timeout(limit / 8 * 7, look_up(name, port)).await;
    found.unwrap_or_else(|_| Err(late(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Admin, Config, Error, Locks};
    #[cfg(any(feature = "consul", feature = "postgres"))]
    use lock_shared::lookup::stand_in::answering;
    #[cfg(feature = "mysql")]
    use lock_shared::lookup::stand_in::greeting;
    #[cfg(feature = "postgres")]
    use lock_shared::lookup::stand_in::second_of_two_good_addresses;
    use lock_shared::lookup::stand_in::{IN_BRACKETS, Silent, known};
    #[cfg(feature = "consul")]
    use lock_shared::lookup::stand_in::{NO_LOCK, agent, agent_that_stays, asked};
    use std::net::TcpListener;
    use std::sync::mpsc::channel;
    use std::thread;

    const LONG: Duration = Duration::from_secs(60);

    /// The connect neither waits for the answer nor asks again, and the runtime's end does not wait either.
    fn ends(
        what: &str,
        silent: &Silent,
        connect: impl AsyncFnOnce(Config) -> Result<(), Error> + Send + 'static,
    ) {
        let (tell, told) = channel();
        let config: Config = what.replace("NAME", silent.name).parse().expect("a good URL");
        let config = config.request_timeout(Duration::from_millis(500));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            let ended = runtime.block_on(connect(config));
            drop(runtime);
            tell.send(ended)
        });
        let ended = told.recv_timeout(LONG).expect("it ends while the name is being looked up");
        let error = ended.expect_err(what).to_string();
        // On a busy machine, the time of the request may be over as soon as that of the lookup.
        let is_told = error.contains(&late(silent.name)) || error.contains("no answer in time");
        assert!(is_told, "{what}: {error}");
    }

    fn each(silent: &Silent, urls: &[&str]) {
        for url in urls {
            ends(url, silent, async |config: Config| Locks::open(config).await.map(drop));
            ends(url, silent, async |config: Config| {
                Admin::open(config).await?.list().await.map(drop)
            });
        }
        assert_eq!(silent.asked(), 1);
    }

    #[test]
    #[cfg(feature = "postgres")]
    fn a_connect_to_postgres_ends_while_its_name_is_looked_up() {
        each(&Silent::new("postgres.invalid"), &["postgres://u@NAME/d", "postgres://NAME,NAME/d"]);
    }

    #[test]
    #[cfg(feature = "mysql")]
    fn a_connect_to_mysql_ends_while_its_name_is_looked_up() {
        let urls = ["mysql://u@NAME/d", "mariadb://NAME:7/d?sslmode=disable"];
        each(&Silent::new("mysql.invalid"), &urls);
    }

    #[test]
    #[cfg(feature = "consul")]
    fn a_question_to_consul_ends_while_its_name_is_looked_up() {
        each(&Silent::new("consul.invalid"), &["consul://NAME", "consul://NAME:7?sslmode=disable"]);
    }

    /// A resolver may be slower than a server.
    #[tokio::test]
    async fn most_of_the_limit_is_for_the_lookup() {
        let silent = Silent::new("slow.invalid");
        let (began, limit) = (std::time::Instant::now(), Duration::from_millis(400));
        assert_eq!(addresses_of(silent.name, 7, limit).await, Err(late(silent.name)));
        assert!(began.elapsed() >= limit / 8 * 7);
    }

    /// Of many connects that end by their limit, none loses the host's name to a limit around it.
    #[test]
    #[cfg(any(feature = "mysql", feature = "postgres"))]
    fn a_host_that_says_nothing_is_named() {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = silent.local_addr().expect("bound").to_string();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        for (url, by) in [
            ("postgres://u@HOST/d?sslmode=disable", cfg!(feature = "postgres")),
            ("mysql://u@HOST/d?sslmode=disable", cfg!(feature = "mysql")),
        ] {
            if !by {
                continue;
            }
            let config: Config = url.replace("HOST", &host).parse().expect("a good URL");
            let config = config.request_timeout(Duration::from_millis(200));
            let mut connects = tokio::task::JoinSet::new();
            for _ in 0..1_000 {
                let opened = Locks::open(config.clone());
                let error = async { opened.await.map(drop).expect_err("silent").to_string() };
                connects.spawn_on(error, runtime.handle());
            }
            let errors = runtime.block_on(connects.join_all());
            assert!(errors.iter().all(|error| error.contains(&host)), "{errors:?}");
        }
    }

    /// A server at the last address of a name, which closes what it accepts.
    #[test]
    fn every_address_is_tried() {
        known("two.invalid", &["127.0.0.2", "127.0.0.1"]);
        // Its certificate is for the name, which the client looks up once more.
        known("localhost", &["::1", "127.0.0.1"]);
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let place = format!("two.invalid:{}", server.local_addr().expect("bound").port());
        let (tell, told) = channel();
        thread::spawn(move || server.incoming().try_for_each(|_| tell.send(())));
        for (url, by) in [
            ("postgres://u@HOST/d?sslmode=disable", cfg!(feature = "postgres")),
            ("mysql://u@HOST/d?sslmode=disable", cfg!(feature = "mysql")),
            ("mysql://u@HOST/d?sslmode=require", cfg!(feature = "mysql")),
            ("mysql://u@localhost/d?sslmode=verify-full", cfg!(feature = "mysql")),
            ("consul://HOST?sslmode=disable", cfg!(feature = "consul")),
        ] {
            if !by {
                continue;
            }
            let host = place.replace("two.invalid", "localhost");
            let url = url.replace("HOST", &place).replace("localhost", &host);
            let config: Config = url.parse().expect("a good URL");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(Locks::open(config)).map(drop).expect_err(&url);
            assert!(told.try_recv().is_ok(), "{url}");
            while told.try_recv().is_ok() {}
        }
    }

    #[test]
    #[cfg(feature = "postgres")]
    fn the_first_good_address_is_the_last_one_that_is_tried() {
        let (url, second) = second_of_two_good_addresses();
        let config: Config = url.parse().expect("a good URL");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime
            .expect("a runtime")
            .block_on(Locks::open(config))
            .map(drop)
            .expect_err("it says no more");
        assert!(second.accept().is_err(), "the other address, too");
    }

    /// Nobody is there, which is another error than that of a name.
    #[test]
    fn an_address_in_brackets_is_no_name() {
        let by = [cfg!(feature = "postgres"), cfg!(feature = "mysql"), cfg!(feature = "consul")];
        for (url, _) in IN_BRACKETS.into_iter().zip(by).filter(|(_, by)| *by) {
            let config: Config = url.parse().expect("a good URL");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let opened = runtime.expect("a runtime").block_on(Locks::open(config));
            let error = opened.map(drop).expect_err(url).to_string();
            assert!(error.contains("[::1]") && !error.contains("lookup"), "{error}");
        }
    }

    /// The server at the first address is frozen. The one at the second refuses, which is told.
    fn leaves_time_for_the_next(url: &str, port: u16, told: &str) {
        let _frozen = TcpListener::bind(("127.0.0.4", port)).expect("the same port");
        known("frozen.invalid", &["127.0.0.4", "127.0.0.1"]);
        let url = url.replace("HOST", &format!("frozen.invalid:{port}"));
        let config: Config = url.parse().expect("a good URL");
        let config = config.request_timeout(Duration::from_secs(5));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let opened = runtime.expect("a runtime").block_on(Locks::open(config));
        let error = opened.map(drop).expect_err(&url).to_string();
        assert!(error.contains(told), "{error}");
    }

    #[test]
    #[cfg(feature = "postgres")]
    fn an_address_that_does_not_answer_leaves_time_for_the_next() {
        let refuses = b"E\0\0\0\x1cSFATAL\0C28000\0Mnot you\0\0";
        let port = answering("127.0.0.1:0", refuses);
        leaves_time_for_the_next("postgres://u@HOST/d?sslmode=disable", port, "not you");
    }

    #[test]
    #[cfg(feature = "mysql")]
    fn an_address_of_mysql_that_does_not_answer_leaves_time_for_the_next() {
        let port = greeting("127.0.0.1:0", b"\x10\0\0\0\xff\x15\x04#28000not you");
        leaves_time_for_the_next("mysql://u@HOST/d?sslmode=disable", port, "not you");
    }

    /// The handshake belongs to the connect. The second agent speaks no TLS.
    #[test]
    #[cfg(feature = "consul")]
    fn an_address_of_consul_that_does_not_answer_leaves_time_for_the_next() {
        let url = "consul://HOST?sslmode=verify-full";
        let port = answering("127.0.0.1:0", NO_LOCK.as_bytes());
        leaves_time_for_the_next(url, port, "sslmode=disable");
    }

    /// The third one speaks no TLS, which is told.
    #[test]
    #[cfg(feature = "consul")]
    fn agents_that_do_not_answer_leave_time_for_the_next() {
        let port = answering("127.0.0.1:0", NO_LOCK.as_bytes());
        let frozen = ["127.0.0.4", "127.0.0.5"];
        let _frozen = frozen.map(|address| TcpListener::bind((address, port)).expect("the port"));
        let hosts = format!("{}:{port},{}:{port},127.0.0.1:{port}", frozen[0], frozen[1]);
        let config: Config =
            format!("consul://{hosts}?sslmode=verify-full").parse().expect("a good URL");
        let config = config.request_timeout(Duration::from_secs(5));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let opened = runtime.expect("a runtime").block_on(Locks::open(config));
        let error = opened.map(drop).expect_err("no TLS").to_string();
        assert!(error.contains("sslmode=disable"), "{error}");
    }

    #[test]
    #[cfg(feature = "consul")]
    fn an_agent_that_moved_is_found_by_the_next_request() {
        let port = agent(NO_LOCK);
        known("moves.invalid", &["127.0.0.3"]);
        let url = format!("consul://moves.invalid:{port}?sslmode=disable");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut admin = Admin::connect(&url).await.expect("nothing is asked");
            admin.list().await.expect_err("nobody is there");
            known("moves.invalid", &["127.0.0.2"]);
            assert_eq!(admin.list().await.map(|all| all.len()), Ok(0));
        });
    }

    #[test]
    #[cfg(feature = "consul")]
    fn an_agent_in_brackets_is_asked() {
        let url = format!("consul://[::1]:{}", answering("[::1]:0", NO_LOCK.as_bytes()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut admin = Admin::connect(&url).await.expect("nothing is asked");
            assert_eq!(admin.list().await.map(|all| all.len()), Ok(0));
        });
    }

    /// The name in its certificate is another matter.
    #[test]
    #[cfg(feature = "consul")]
    fn an_agent_is_asked_by_its_name_in_the_url() {
        let (port, asked) = asked(["200 OK"]);
        let url = format!("consul://127.0.0.1:{port}?sslmode=disable&server_name=agent.invalid");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut admin = Admin::connect(&url).await.expect("nothing is asked");
            assert_eq!(admin.list().await.map(|all| all.len()), Ok(0));
        });
        let [request] = asked.join().expect("no panic");
        let host = format!("\r\nhost: 127.0.0.1:{port}\r\n");
        assert!(request.to_lowercase().contains(&host), "{request}");
    }

    /// Only a first connect refuses for good: somebody may mend the certificate.
    #[test]
    #[cfg(feature = "consul")]
    fn a_handshake_that_fails_is_no_refusal_of_an_agent() {
        let port = answering("127.0.0.1:0", NO_LOCK.as_bytes());
        let url = format!("consul://127.0.0.1:{port}?sslmode=verify-full");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let listed = runtime.expect("a runtime").block_on(async {
            let mut admin = Admin::connect(&url).await?;
            admin.list().await
        });
        let error = listed.expect_err("no TLS");
        assert!(error.is_transient() && error.to_string().contains("sslmode=disable"), "{error:?}");
    }

    /// More than the client has room for.
    #[test]
    #[cfg(feature = "consul")]
    fn a_name_may_have_many_addresses() {
        known("many.invalid", &["127.0.0.2"; 40]);
        let url = format!("consul://many.invalid:{}?sslmode=disable", agent(NO_LOCK));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut admin = Admin::connect(&url).await.expect("nothing is asked");
            assert_eq!(admin.list().await.map(|all| all.len()), Ok(0));
        });
    }

    /// Nothing was sent to it, so that another agent gets the same request.
    #[test]
    #[cfg(feature = "consul")]
    fn an_agent_that_cannot_be_reached_is_passed_over_by_the_same_request() {
        known("nowhere.invalid", &[]);
        let closed = TcpListener::bind("127.0.0.2:0").and_then(|listener| listener.local_addr());
        let closed = closed.expect("bound").port();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        for first in ["nowhere.invalid:7".to_string(), format!("127.0.0.2:{closed}")] {
            let url = format!("consul://{first},127.0.0.2:{}?sslmode=disable", agent(NO_LOCK));
            runtime.block_on(async {
                let mut admin = Admin::connect(&url).await.expect("nothing is asked");
                assert_eq!(admin.list().await.map(|all| all.len()), Ok(0), "{first}");
            });
        }
    }

    /// It has no way to the leader, or it goes away in the middle of a request, which it may have executed.
    #[test]
    #[cfg(feature = "consul")]
    fn an_agent_that_is_broken_is_passed_over_by_the_next_request() {
        let no_leader = "HTTP/1.1 500 No cluster leader\r\nContent-Length: 0\r\n\r\n";
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let stays = agent_that_stays(no_leader);
        for (broken, answer) in [(agent(no_leader), no_leader), (stays, no_leader), (agent(""), "")]
        {
            let next = agent(NO_LOCK);
            let url = format!("consul://127.0.0.2:{broken},127.0.0.2:{next}?sslmode=disable");
            runtime.block_on(async {
                let mut admin = Admin::connect(&url).await.expect("nothing is asked");
                let error = admin.list().await.expect_err(answer).to_string();
                let names = error.contains(&format!(" 127.0.0.2:{broken}: "));
                assert!(names || !answer.is_empty(), "{error}");
                assert_eq!(admin.list().await.map(|all| all.len()), Ok(0), "{answer}");
            });
        }
    }
}
