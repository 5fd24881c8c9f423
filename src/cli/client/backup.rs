//! `polecat backup`: a copy of the database, made while a server uses it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::status::bytes;
use super::terminal::print;
use crate::store::sqlite::{beside, copy, folder_of, locate, other_names};

/// The flags of `polecat backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "The copy shows a single moment, and has no free pages. A server that uses the database continues to serve \
    and store; messages published after that moment are not in the copy. The copy is written to FILE.part, checked from \
    end to end, and only then renamed to FILE.\n\n\
    Examples:\n  \
    polecat backup copy.db\n  \
    polecat backup --db /var/lib/polecat/polecat.db /srv/backups/polecat-monday.db\n\n\
    Exit status: 0 if the copy is complete and sound; 1 if not (stderr says why); 2 for a wrong command line."
)]
pub(in crate::cli) struct Backup {
    /// The copy, which must not exist yet
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The database to copy
    #[arg(long = "db", value_name = "FILE", env = "POLECAT_DB", default_value = "polecat.db")]
    database: PathBuf,

    /// Do not report a successful copy
    #[arg(short, long)]
    quiet: bool,
}

impl Backup {
    pub(super) fn run(&self) -> Result<(), String> {
        let refused = |reason: &str| format!("cannot copy {}: {reason}", self.database.display());
        if self.database.as_os_str() == "off" {
            return Err("nothing is stored with --db off: there is nothing to copy".to_owned());
        }
        let metadata = fs::metadata(&self.database).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => refused("it is not there; name the database with --db"),
            _ => refused(&error.to_string()),
        })?;
        if let Some(reason) = other_names(&metadata).filter(|_| metadata.is_file()) {
            return Err(refused(&reason));
        }
        // The target of a link: the log is beside that.
        let located = locate(&self.database).map_err(|reason| refused(&reason))?;
        let database = located.unwrap_or_else(|| self.database.clone());
        self.must_not_exist()?;
        let stop = interrupted().map_err(|error| format!("cannot handle signals: {error}"))?;
        let part = Part::create(&self.file, metadata.mode() & 0o777)?;
        let bar = progress_bar(self.quiet);
        let shown = bar.clone();
        let copied = copy(&database, &part.path, move |written, of| {
            shown.set_length(of);
            shown.set_position(written);
            shown.set_message(if written < of { "copying" } else { "checking" });
            stop.load(Ordering::Relaxed)
        });
        bar.finish_and_clear();
        let copied = copied.map_err(|reason| refused(&reason))?;
        self.must_not_exist()?;
        part.keep_as(&self.file)?;
        if self.quiet {
            return Ok(());
        }
        let (message, event) = (copied.newest_message, copied.newest_event);
        let size = bytes(copied.bytes);
        print(&format!("{}: {size}, sound: up to message {message} and event {event}\n", self.file.display()))
            .map(|_| ())
    }

    fn must_not_exist(&self) -> Result<(), String> {
        // A link to nothing would be replaced too.
        match fs::symlink_metadata(&self.file) {
            Ok(_) => Err(format!("{} exists already; name another file, or delete it", self.file.display())),
            Err(_) => Ok(()),
        }
    }
}

/// The unfinished copy. It is deleted unless it is kept.
struct Part {
    path: PathBuf,
    file: File,
    is_kept: bool,
}

impl Part {
    fn create(file: &Path, mode: u32) -> Result<Self, String> {
        let path = beside(file, ".part");
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => format!(
                "{} exists: another backup is writing it, or was cut short; delete it if none is running",
                path.display()
            ),
            io::ErrorKind::NotFound => format!("cannot write {}: its folder does not exist", path.display()),
            _ => format!("cannot write {}: {error}", path.display()),
        })?;
        Ok(Self { path, file, is_kept: false })
    }

    /// When this returns, the copy is on the disk and has its name.
    fn keep_as(mut self, name: &Path) -> Result<(), String> {
        let failed = |error: io::Error| format!("cannot write {}: {error}", name.display());
        self.file.sync_all().map_err(failed)?;
        fs::rename(&self.path, name).map_err(failed)?;
        self.is_kept = true;
        File::open(folder_of(name)).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_kept {
            // If it cannot be deleted, the next run reports that it exists.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Set when the copy must stop; a second signal ends the process.
fn interrupted() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Shown only on a terminal.
fn progress_bar(is_quiet: bool) -> ProgressBar {
    if is_quiet {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:9} {wide_bar} {bytes} of {total_bytes}");
    let bar = ProgressBar::new(0);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
