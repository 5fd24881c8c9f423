//! The units of `contrib/`, as systemd rates them: docs/operating.md, "As a service".

use std::path::Path;
use std::process::Command;

use crate::support::{Home, skip};

/// `systemd-analyze security` rates what a service may do, up to 100.
const EXPOSURE_MAX: &str = "--threshold=10";

fn analyze(words: &[&str], files: &[&Path]) -> Option<(bool, String)> {
    let output = Command::new("systemd-analyze").args(words).args(files).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn the_units_are_well_formed_and_allow_little() {
    let contrib = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib");
    let folder = Home::new();
    let [service, socket] = ["polecat.service", "polecat.socket"].map(|name| {
        let unit = std::fs::read_to_string(contrib.join(name)).expect("a unit");
        // The program of a unit must exist.
        let unit = unit.replace("/usr/bin/polecat", env!("CARGO_BIN_EXE_polecat"));
        let place = folder.database().with_file_name(name);
        std::fs::write(&place, unit).expect("it is written");
        place
    });
    let Some((is_well, said)) = analyze(&["verify", "--man=no"], &[&service, &socket]) else {
        return skip("systemd-analyze is not there");
    };
    assert!(is_well && said.is_empty(), "{said}");
    let (is_well, said) = analyze(&["security", "--offline=true", "--no-pager", EXPOSURE_MAX], &[&service])
        .expect("it is there");
    assert!(is_well, "{said}");
}
