//! Output made from the command line itself: completions and the manual.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man as Page;

use super::terminal::print;

/// The flags of `polecat completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    polecat completions bash > ~/.local/share/bash-completion/completions/polecat\n  \
    polecat completions zsh > ~/.zfunc/_polecat\n  \
    polecat completions fish > ~/.config/fish/completions/polecat.fish")]
pub(in crate::cli) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// The flags of `polecat man`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    polecat man | man -l -\n  \
    polecat man load echo > polecat-load-echo.1\n  \
    polecat man --all /usr/local/share/man/man1")]
pub(in crate::cli) struct Man {
    /// The command, such as tail or load echo; without it, the page is about polecat as a whole
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,

    /// Write the pages of all commands to files in this folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    all: Option<PathBuf>,
}

impl Completions {
    pub(super) fn run(&self, mut command: Command) -> Result<(), String> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut command, "polecat", &mut text);
        print(&String::from_utf8_lossy(&text)).map(|_| ())
    }
}

impl Man {
    pub(super) fn run(&self, command: Command) -> Result<(), String> {
        let mut command = command.disable_help_subcommand(true);
        command.build();
        if let Some(folder) = &self.all {
            std::fs::create_dir_all(folder)
                .and_then(|()| clap_mangen::generate_to(command, folder))
                .map_err(|error| format!("cannot write to {}: {error}", folder.display()))?;
            return Ok(());
        }
        let mut named = &command;
        for word in &self.command {
            named = named.find_subcommand(word).ok_or_else(|| {
                let known = named.get_subcommands().map(Command::get_name).collect::<Vec<_>>();
                match known.is_empty() {
                    true => format!("{} has no commands", named.get_name()),
                    false => {
                        format!("{} has no command {word:?}; it has {}", named.get_name(), known.join(", "))
                    }
                }
            })?;
        }
        let mut text = Vec::new();
        let page = Page::new(named.clone()).source(concat!("polecat ", env!("CARGO_PKG_VERSION")));
        page.render(&mut text).map_err(|error| error.to_string())?;
        print(&String::from_utf8_lossy(&text)).map(|_| ())
    }
}
