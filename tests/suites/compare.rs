//! The driver of `benches/compare` keeps its measurements: README.md there, "How it is measured".

use std::path::Path;
use std::process::Command;

use crate::tool;

#[test]
fn a_comparison_that_is_cut_off_keeps_its_figures_and_goes_on() {
    if !tool::are_there(&[Path::new("python3")]) {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compare");
    let mut command = Command::new("python3");
    // No `__pycache__` among the sources.
    let run = tool::run(command.args(["-B", "-m", "unittest", "driver.test_rounds"]).current_dir(folder));
    assert!(run.status.success(), "{}: {}", run.status, run.output);
}
