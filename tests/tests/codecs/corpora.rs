//! The fuzz targets over their committed inputs, and over some more.

use lock_tests::targets::ALL;
use std::path::Path;

#[test]
fn every_committed_input_passes_its_target() {
    for (name, target) in ALL {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
        let mut inputs = 0;
        for entry in std::fs::read_dir(&corpus).expect("a corpus") {
            target(&std::fs::read(entry.expect("an entry").path()).expect("an input"));
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has no inputs");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_bytes_pass_every_target(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        for (_, target) in ALL {
            target(&bytes);
        }
    }
}
