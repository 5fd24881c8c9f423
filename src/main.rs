//! The `polecat` program: see `cli::run`.

fn main() -> std::process::ExitCode {
    polecat::cli::run::run()
}
