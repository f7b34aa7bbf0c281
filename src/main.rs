//! A stage, the tour or a command? The only dispatch.

use std::process::ExitCode;

use kelp::process::stage::Stage;
use kelp::{cli, container, network, sandbox, storage};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let result = match Stage::from_argv0(&name) {
        None if cli::tour::is_meant(&name) => return cli::tour::main(arguments),
        None => return cli::main(arguments),
        Some(Stage::Supervisor) => container::supervisor::main(),
        Some(Stage::Unpack) => storage::unpack::stage::main(),
        Some(Stage::Pack) => storage::pack::stage::main(),
        Some(Stage::Fill) => storage::fill::main(),
        Some(Stage::Copy) => container::copy::main(),
        Some(Stage::Sweep) => storage::sweep::stage(),
        Some(Stage::Census) => storage::census::main(),
        Some(Stage::Network) => network::process::main(),
        Some(Stage::View) => sandbox::view::main(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            cli::output::failure(&failure);
            ExitCode::FAILURE
        }
    }
}
