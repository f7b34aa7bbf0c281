//! `run`: throw-away first path.
#![allow(missing_docs)]
use std::os::fd::AsFd;
use std::path::PathBuf;

use super::base_steps::{self, Choices};
use crate::container::attach::{self, Observer};
use crate::container::store;
use crate::container::supervisor::{Request, ToSupervisor};
use crate::error::Result;
use crate::paths::Paths;
use crate::process::base::Base;
use crate::process::launch;
use crate::process::stage::Stage;
use crate::sandbox::spec::*;

pub struct RunRequest {
    pub rootfs: PathBuf,
    pub command: Vec<String>,
    pub interactive: bool,
    pub terminal: bool,
}

pub fn run(paths: &Paths, request: RunRequest, observer: &mut dyn Observer) -> Result<i32> {
    let mut base = Base::find(paths)?;
    let launched = launch::launch(Stage::Supervisor, &mut base, "x", &[])?;
    let made = store::create(paths, "test")?;
    let namespaces = Namespaces {
        pid: Namespace::Private,
        ipc: Namespace::Private,
        uts: Namespace::Private,
        network: Namespace::Private,
        cgroup: Namespace::Private,
        time: Some(TimeOffsets::default()),
    };
    let mut steps = base_steps::steps(&Choices {
        namespaces: &namespaces,
        shm_bytes: 64 << 20,
        terminal: request.terminal,
        host_mqueue: true,
    });
    steps.extend(base_steps::READ_ONLY.map(|p| Step::ReadOnly(ContainerPath::new(p))));
    steps.extend(base_steps::MASKED.map(|p| Step::Mask(ContainerPath::new(p))));
    let directory = made.container.directory.clone();
    let spec = SandboxSpec {
        version: 1,
        id: made.container.record.id.clone(),
        hostname: Some("box".into()),
        namespaces,
        id_map: base.map.identity(),
        root: Root {
            lowers: vec![HostPath(request.rootfs)],
            upper: HostPath(directory.join("upper")),
            work: HostPath(directory.join("work")),
            volatile: true,
            read_only: false,
        },
        steps,
        sysctls: vec![],
        process: Process {
            arguments: request.command,
            environment: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
            directory: ContainerPath::new("/"),
            user: String::new(),
            groups: vec![],
            capabilities: 0xa80425fb,
            no_new_privileges: false,
            limits: vec![],
            seccomp: None,
            terminal: request.terminal,
            init: false,
        },
    };
    let mut record = made.container.record;
    record.auto_remove = true;
    let start = Request { spec, record, directory, data: paths.data.clone(), run: paths.run.clone(), stdin: request.interactive };
    launched.channel.send(&ToSupervisor::Start(Box::new(start)), &[made.lock.as_fd()])?;
    drop(made.lock);
    attach::attach(&launched.channel, request.interactive, observer)
}
