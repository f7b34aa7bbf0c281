//! `kelp login`: shows a name and a password to a registry and keeps them.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;

use super::{Session, output, prompt, registry};
use crate::engine::login::{self, Request, Scope};
use crate::error::{Context, Failure, Kind, Result};
use crate::image::registry::{Credentials, Place};
use crate::limits;

/// Arguments of `kelp login`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The registry, e.g. quay.io or localhost:5000, or a namespace of it; short names' if left out
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
    /// Your name there
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Your password (others can see it in the list of processes)
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Print as whom you are logged in, and do nothing else
    #[arg(long, conflicts_with_all = ["username", "password", "password_stdin"])]
    get_login: bool,
    /// Keep the login in this file
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    #[command(flatten)]
    transport: registry::Transport,
}

/// Logs in, or says who is.
pub(super) fn run(arguments: Arguments, _session: &Session) -> Result<i32> {
    arguments.transport.check()?;
    let scope = Scope::parse(arguments.registry.as_deref())?;
    if arguments.get_login {
        return match login::current(&scope, arguments.authfile.as_deref())? {
            Some(found) => {
                output::line(found.credentials.name());
                Ok(0)
            }
            None => Err(Failure::not_found(format!("not logged in to {}", scope.name))),
        };
    }
    let request = Request { scope, plain_http: arguments.transport.plain_http, auth_file: arguments.authfile.clone() };
    if arguments.username.is_none() && arguments.password.is_none() && is_logged_in(&request)? {
        output::line("Login Succeeded");
        return Ok(0);
    }
    let credentials = ask(&arguments, &request.scope)?;
    let logged_in = login::log_in(&request, &credentials)?;
    if !logged_in.was_checked {
        output::notice(&format!("{} asks nobody for a password, so yours was not checked", request.scope.registry));
    }
    if let Place::File(path) = &logged_in.place {
        let path = path.display();
        output::notice(&format!("the login is kept in \"{path}\", unencrypted, where only you can read it"));
    }
    output::line("Login Succeeded");
    Ok(0)
}

/// Whether the login that is kept is still good.
fn is_logged_in(request: &Request) -> Result<bool> {
    let Some(found) = login::current(&request.scope, request.auth_file.as_deref())? else { return Ok(false) };
    match login::check(request, &found.credentials) {
        Ok(()) => {
            output::notice(&format!("the login kept in \"{}\" is still good", found.file.display()));
            Ok(true)
        }
        Err(failure) if failure.kind == Kind::User && prompt::is_possible() => {
            output::notice(&failure.to_string());
            Ok(false)
        }
        Err(failure) => Err(failure),
    }
}

/// Name and password, as given or asked for.
fn ask(arguments: &Arguments, scope: &Scope) -> Result<Credentials> {
    let name = match &arguments.username {
        Some(name) => name.clone(),
        None => prompt::line(&format!("Username for {}: ", scope.name))?,
    };
    let password = match &arguments.password {
        Some(password) => {
            output::notice("others on this machine can see a password given with --password; use --password-stdin");
            password.clone()
        }
        None if arguments.password_stdin => read_password().doing(|| "read the password")?,
        None => prompt::secret("Password: ")?,
    };
    login::credentials(&name, &password)
}

/// All of standard input but the end of its last line.
fn read_password() -> Result<String> {
    let mut bytes = Vec::new();
    let most = limits::PASSWORD_BYTES_MAX as u64 + 2;
    std::io::stdin().lock().take(most).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::usage("it is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}
