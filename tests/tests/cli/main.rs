//! The command `withlock`, as people and other programs use it.

mod arguments;
mod bad_input;
mod blocked;
mod codes;
mod connect;
mod conventions;
mod death;
mod descriptors;
mod durability;
mod edge;
mod exclusion;
mod guardian;
mod leader;
mod limits;
mod looking;
mod max_hold;
mod nested;
mod options;
mod pinning;
mod signals;
mod silence;
mod sqlite_disk;
mod sqlite_file;
mod sqlite_users;
mod together;
mod transcripts;
