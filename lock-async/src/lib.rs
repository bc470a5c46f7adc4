//! The place of the async driver. **Nothing works here yet**: there is no code, so that nothing can
//! be mistaken for a lock. It will mirror `lock-sync` name by name, on the same `lock-core`.
