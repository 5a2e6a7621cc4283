//! postern-completions: writes completions of the three programs for bash, zsh and fish into a
//! directory. For packaging; it is not installed.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use clap_complete::{Shell, generate_to};
use postern::{client, ctl, daemon, exit};

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let (Some(directory), None) = (args.next(), args.next()) else {
        eprintln!("usage: postern-completions DIRECTORY");
        return exit::USAGE.into();
    };
    let directory = Path::new(&directory);
    match write(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("postern-completions: {}: {e}", directory.display());
            exit::IOERR.into()
        }
    }
}

/// Files by the names that the shells look for: `NAME.bash`, `_NAME`, `NAME.fish`.
fn write(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for mut command in [
        client::command_line(),
        ctl::command_line(),
        daemon::arguments::command_line(),
    ] {
        let name = command.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            generate_to(shell, &mut command, &name, directory)?;
        }
    }
    Ok(())
}
