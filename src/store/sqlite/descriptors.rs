//! When the system has no descriptor left.

use std::fs::File;
use std::io;

use rustix::io::Errno;

/// Descriptors that opening a database takes: the file, its write-ahead log, its shared memory, and its folder.
const OF_A_DATABASE: usize = 4;

/// What is wrong, and what to do about it if that is a lack of descriptors.
pub(crate) fn explain(error: &io::Error) -> String {
    if are_lacking(error) {
        return "no descriptors are left; raise the limit with `ulimit -n` or in the service's unit"
            .to_owned();
    }
    error.to_string()
}

/// Whether the process, or the system, has no descriptor left.
pub(crate) fn are_lacking(error: &io::Error) -> bool {
    let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    is(Errno::MFILE) || is(Errno::NFILE)
}

/// Whether there are enough of them to open a database.
///
/// # Errors
/// Those of the system.
pub(crate) fn look_for_enough() -> io::Result<()> {
    (0..OF_A_DATABASE).map(|_| File::open("/dev/null")).collect::<io::Result<Vec<_>>>().map(drop)
}
