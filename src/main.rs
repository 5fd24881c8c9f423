//! The `polecat` program: see `shell::cli`.

fn main() -> std::process::ExitCode {
    polecat::shell::cli::run()
}
