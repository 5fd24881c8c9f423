//! The case that the system has no descriptors left.

use std::fs::File;
use std::io;

use rustix::io::Errno;

/// The descriptors that an open database takes: the file, its write-ahead log, its shared memory, and its
/// folder.
const OF_A_DATABASE: usize = 4;

/// The error, with advice if it is a lack of descriptors.
pub(crate) fn explain(error: &io::Error) -> String {
    if are_lacking(error) {
        return "no descriptors are left; raise the limit with `ulimit -n` or in the service's unit"
            .to_owned();
    }
    error.to_string()
}

pub(crate) fn are_lacking(error: &io::Error) -> bool {
    let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    is(Errno::MFILE) || is(Errno::NFILE)
}

/// Checks that there are enough descriptors to open a database.
pub(crate) fn look_for_enough() -> io::Result<()> {
    (0..OF_A_DATABASE).map(|_| File::open("/dev/null")).collect::<io::Result<Vec<_>>>().map(drop)
}
