//! What the engine does, scene by scene, through its public API.
//!
//! A [`Scenario`](scenario::Scenario) is one engine with a clock of its own. Whatever it sends or
//! tells must be expected by the test, or the test fails.

mod acquire;
mod batch;
mod behind;
mod cancel;
mod first_connect;
mod give_up;
mod gone;
mod keep;
mod lasting;
mod look;
mod lose;
mod news;
mod order;
mod own;
mod records;
mod release;
mod renew;
mod replay;
mod rivals;
mod scale;
mod scenario;
mod semaphore;
mod sessions;
mod several;
mod spare;
mod wait;
mod watch;
