//! One program more in a container that runs: what a command asks for, and
//! what the supervisor makes of it.

use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result};
use crate::kernel::terminal::Size;
use crate::limits::ENVIRONMENT_MAX;
use crate::sandbox::environment;
use crate::sandbox::spec::{ContainerPath, Process};

/// What is asked for. Without a terminal, the program's standard input, output
/// and error come along, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// argv.
    pub arguments: Vec<String>,
    /// Wishes on top of the container's environment, in order: a name with its
    /// value, or `None` to take it away.
    pub variables: Vec<(String, Option<String>)>,
    /// Working directory; `None` is the container's.
    pub directory: Option<ContainerPath>,
    /// `USER[:GROUP]`; `None` is the container's.
    pub user: Option<String>,
    /// A terminal of its own (`-t`).
    pub terminal: bool,
    /// The terminal's size, if it is known.
    pub size: Option<Size>,
    /// The command waits for the start only (`-d`).
    pub detached: bool,
}

impl Exec {
    /// The program. What it may do is what the container's own program `first`
    /// may: capabilities, limits, filter and groups are the same.
    pub fn program(&self, first: &Process) -> Result<Process> {
        let wishes = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        let mut environment = environment::apply(&first.environment, wishes);
        if self.terminal && !environment.iter().any(|line| line.starts_with("TERM=")) {
            environment.push("TERM=xterm".to_owned());
        }
        if environment.len() > ENVIRONMENT_MAX {
            return Err(Failure::user(format!("more than {ENVIRONMENT_MAX} environment variables")));
        }
        Ok(Process {
            arguments: self.arguments.clone(),
            environment,
            directory: self.directory.clone().unwrap_or_else(|| first.directory.clone()),
            user: self.user.clone().unwrap_or_else(|| first.user.clone()),
            terminal: self.terminal,
            init: false,
            ..first.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first() -> Process {
        Process {
            arguments: vec!["server".to_owned()],
            environment: vec!["PATH=/bin".to_owned(), "A=1".to_owned(), "B=2".to_owned()],
            directory: ContainerPath::new("/srv"),
            user: "web".to_owned(),
            groups: vec!["disk".to_owned()],
            capabilities: 5,
            no_new_privileges: true,
            limits: vec![(7, 10, 20)],
            oom_score_adj: Some(5),
            seccomp: None,
            terminal: false,
            init: true,
        }
    }

    fn exec() -> Exec {
        Exec {
            arguments: vec!["sh".to_owned()],
            variables: Vec::new(),
            directory: None,
            user: None,
            terminal: false,
            size: None,
            detached: false,
        }
    }

    #[test]
    fn has_the_containers_rights_and_surroundings() {
        let program = exec().program(&first()).unwrap();
        assert_eq!(program, Process { arguments: vec!["sh".to_owned()], init: false, ..first() });
    }

    #[test]
    fn has_what_was_asked_for() {
        let variables = vec![("A".to_owned(), Some("x".to_owned())), ("B".to_owned(), None)];
        let (directory, user) = (Some(ContainerPath::new("/tmp")), Some("0".to_owned()));
        let program = Exec { variables, directory, user, terminal: true, ..exec() }.program(&first()).unwrap();
        assert_eq!(program.environment, ["PATH=/bin", "A=x", "TERM=xterm"]);
        assert_eq!((program.directory, program.user.as_str()), (ContainerPath::new("/tmp"), "0"));
        assert_eq!(program.capabilities, 5);
    }

    #[test]
    fn a_terminal_keeps_the_name_it_was_given() {
        let variables = vec![("TERM".to_owned(), Some("vt100".to_owned()))];
        let program = Exec { variables, terminal: true, ..exec() }.program(&first()).unwrap();
        assert_eq!(program.environment, ["PATH=/bin", "A=1", "B=2", "TERM=vt100"]);
    }
}
