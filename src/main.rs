//! A stage or a command? The only dispatch.
#![allow(clippy::print_stderr, clippy::exit)]

use kelp::process::stage::Stage;

struct Loud(bool);
impl kelp::container::attach::Observer for Loud {
    fn notice(&mut self, notice: &str) {
        eprintln!("notice: {notice}");
    }
    fn steps(&mut self, steps: &[(String, u64)]) {
        if self.0 {
            for (n, us) in steps {
                eprintln!("{us:6} us {n}");
            }
        }
    }
}

fn main() {
    let mut args = std::env::args_os();
    let argv0 = args.next().unwrap_or_default();
    if Stage::from_argv0(&argv0).is_some() {
        if let Err(e) = kelp::container::supervisor::main() {
            eprintln!("stage: {e}");
        }
        return;
    }
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let debug = args.first().is_some_and(|a| a == "-d");
    if debug { args.remove(0); }
    let tty = args.first().is_some_and(|a| a == "-t");
    if tty { args.remove(0); }
    let rootfs = args.remove(0).into();
    let paths = kelp::paths::Paths::of_this_user().expect("p");
    let r = kelp::engine::run::run(&paths, kelp::engine::run::RunRequest { rootfs, command: args, interactive: true, terminal: tty }, &mut Loud(debug));
    match r {
        Ok(code) => std::process::exit(code),
        Err(f) => {
            eprintln!("kelp: {f}");
            for h in f.hints { eprintln!("hint: {h}"); }
            std::process::exit(125)
        }
    }
}
