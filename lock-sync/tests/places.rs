//! A place that only the other driver in the same build has is refused as one that neither has.
#![cfg(not(feature = "postgres"))]

use lock_sync::{Admin, ConfigError, Error, Locks};

#[test]
fn a_place_of_the_other_driver_is_refused() {
    let url = "postgres://localhost/app";
    for refused in [Locks::connect(url).map(drop), Admin::connect(url).map(drop)] {
        assert!(matches!(refused, Err(Error::Config(ConfigError::Scheme(_)))), "{refused:?}");
    }
}
