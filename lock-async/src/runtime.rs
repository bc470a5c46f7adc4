//! The runtime that locks run on.

use lock_core::config::ConfigError;
use lock_shared::place::Place;
use std::panic::catch_unwind;
use std::time::Duration;
use tokio::runtime::Handle;

/// Fails unless this is a tokio runtime that has all that locks in this place need.
pub(crate) fn check_for(place: &Place) -> Result<(), ConfigError> {
    check()?;
    match place {
        #[cfg(feature = "postgres")]
        Place::Postgres(_) => check_io(),
        #[cfg(feature = "mysql")]
        Place::Mysql(_) => check_io(),
        #[cfg(feature = "consul")]
        Place::Consul(_) => check_io(),
        #[allow(unreachable_patterns)]
        _ => Ok(()),
    }
}

/// Fails unless this is a tokio runtime with a timer, which the driver's task needs for any connection.
pub(crate) fn check() -> Result<(), ConfigError> {
    Handle::try_current().map_err(|_| ConfigError::NoRuntime)?;
    // Tokio tells by a panic only. If the first timer were that of a request, the panic would be taken for one of the client.
    catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO)))
        .map_err(|_| ConfigError::Runtime("no timer: build it with enable_time or enable_all"))
}

/// Reads files on a thread of its own, because a connect must not queue behind the program's other work on the runtime's blocking
/// threads, and must not wait for ever for a disk that hangs.
#[cfg(any(feature = "consul", feature = "mysql", feature = "postgres"))]
pub(crate) async fn read_files<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ConfigError> + Send + 'static,
) -> Result<T, ConfigError> {
    const LIMIT: Duration = Duration::from_secs(10);
    let (tell, told) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("lock files".to_string());
    thread
        .spawn(move || drop(tell.send(read())))
        .map_err(|error| ConfigError::System(format!("it cannot start a thread: {error}")))?;
    let told = match tokio::time::timeout(LIMIT, told).await {
        Ok(Ok(read)) => return read,
        Ok(Err(_)) => "a file with certificates cannot be read, because of a panic",
        Err(_) => "a file with certificates was not read in time",
    };
    Err(ConfigError::System(told.to_string()))
}

#[cfg(any(feature = "consul", feature = "mysql", feature = "postgres"))]
fn check_io() -> Result<(), ConfigError> {
    // A socket that leads nowhere. If the system has none to give, the client is told so, too.
    catch_unwind(|| drop(tokio::net::UnixDatagram::unbound())).map_err(|_| {
        ConfigError::Runtime("no I/O, which a server needs: build it with enable_io or enable_all")
    })
}

#[cfg(test)]
mod tests {
    use crate::{Admin, Config, ConfigError, Error, Locks};
    use tokio::runtime::{Builder, Runtime};

    fn runtime(timer: bool, io: bool) -> Runtime {
        let mut builder = Builder::new_current_thread();
        if timer {
            builder.enable_time();
        }
        if io {
            builder.enable_io();
        }
        builder.build().expect("a runtime")
    }

    /// What all ways to open this end with on such a runtime.
    fn refused(config: &Config, timer: bool, io: bool) -> String {
        let runtime = runtime(timer, io);
        let open = |config: Config| runtime.block_on(Locks::open(config)).map(drop);
        let admin = runtime.block_on(Admin::open(config.clone())).map(drop);
        let all = [open(config.clone()), open(config.clone().lazy()), admin];
        let [told, ..] = &all;
        assert!(all.iter().all(|other| other == told), "{all:?}");
        match told {
            Err(error @ Error::Config(ConfigError::Runtime(_))) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    #[cfg(all(feature = "consul", feature = "mysql", feature = "postgres"))]
    fn a_runtime_without_io_is_refused_for_a_server() {
        for url in ["postgres://u@127.0.0.1:1/d", "mysql://u@127.0.0.1:1/d", "consul://127.0.0.1:1"]
        {
            let config: Config = url.parse().expect("a good URL");
            assert!(refused(&config, true, false).contains("enable_io"), "{url}");
            for io in [false, true] {
                assert!(refused(&config, false, io).contains("enable_time"), "{url}");
            }
        }
    }

    #[test]
    #[cfg(feature = "sqlite")]
    fn a_file_takes_a_runtime_with_a_timer() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("locks.db");
        let config = Config::sqlite(&path);
        for io in [false, true] {
            assert!(refused(&config, false, io).contains("enable_time"));
            let runtime = runtime(false, io);
            let file = path.clone();
            let own = move || rusqlite::Connection::open(&file);
            let refused =
                |error: Error| assert!(matches!(error, Error::Config(ConfigError::Runtime(_))));
            let brought = Locks::with_sqlite(own().expect("opened"), Config::new());
            refused(runtime.block_on(brought).map(drop).expect_err("no timer"));
            let made = Locks::from_sqlite(own.clone(), Config::new());
            refused(runtime.block_on(made).map(drop).expect_err("no timer"));
            let brought = Admin::with_sqlite(own().expect("opened"), Config::new());
            refused(runtime.block_on(brought).map(drop).expect_err("no timer"));
            let made = Admin::from_sqlite(own.clone(), Config::new());
            refused(runtime.block_on(made).map(drop).expect_err("no timer"));
        }
        runtime(true, false).block_on(async {
            let locks = Locks::open(config).await.expect("it needs no more");
            locks.lock("a").await.expect("acquired").release().await.expect("released");
        });
    }
}
