//! An image from a root file system: one layer and a config made up for it
//! (`docker import`).

use std::io::Read;

use super::layer;
use super::{Loaded, keep};
use crate::error::{Context, Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::config::{History, ImageConfig, RootFs, RunConfig};
use crate::image::descriptor::{Descriptor, OCI_CONFIG, OCI_MANIFEST};
use crate::image::manifest::Manifest;
use crate::image::platform::Platform;
use crate::image::quote::quoted;
use crate::image::reference::Reference;
use crate::paths::Paths;

/// How to make an image of a tar.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Its name.
    pub reference: Option<Reference>,
    /// A remark for its history.
    pub message: Option<String>,
    /// Dockerfile instructions for its config, e.g. `CMD ["sh"]`.
    pub changes: Vec<String>,
    /// What it runs on.
    pub platform: Platform,
}

/// Makes an image of one layer, a tar of any compression.
pub fn import(paths: &Paths, tar: &mut dyn Read, options: &ImportOptions) -> Result<Loaded> {
    let mut run = RunConfig::default();
    for change in &options.changes {
        apply(&mut run, change).doing(|| format!("apply change {}", quoted(change)))?;
    }
    let blobs = Blobs::open(paths)?;
    let layer = layer::store(&blobs, tar).doing(|| "import root file system")?;
    let now = jiff::Timestamp::now().to_string();
    let comment = options.message.clone().unwrap_or_else(|| "imported root file system".to_owned());
    let config = ImageConfig {
        created: Some(now.clone()),
        architecture: options.platform.architecture.clone(),
        os: options.platform.os.clone(),
        variant: options.platform.variant.clone(),
        config: run,
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![layer.diff_id] },
        history: vec![History { created: Some(now), comment: Some(comment), ..History::default() }],
        ..ImageConfig::default()
    };
    let bytes = config.to_bytes()?;
    // What we write must be what we read.
    ImageConfig::parse(&bytes)?;
    let manifest = Manifest::new(Descriptor::of(OCI_CONFIG, &bytes), vec![layer.descriptor]).to_bytes()?;
    let id = blobs.put(&bytes)?;
    blobs.put(&manifest)?;
    let references = options.reference.clone().into_iter().collect();
    let image = Loaded { manifest: Descriptor::of(OCI_MANIFEST, &manifest), id, references };
    keep(paths, &image)?;
    Ok(image)
}

/// One instruction of those that only change the config.
fn apply(run: &mut RunConfig, change: &str) -> Result<()> {
    let (instruction, rest) = change.trim().split_once(char::is_whitespace).unwrap_or((change.trim(), ""));
    let rest = rest.trim();
    if rest.is_empty() {
        return Err(Failure::usage("it has no arguments"));
    }
    match instruction.to_ascii_uppercase().as_str() {
        "CMD" => run.cmd = command(rest)?,
        "ENTRYPOINT" => run.entrypoint = command(rest)?,
        "SHELL" => run.shell = serde_json::from_str(rest).map_err(|_| Failure::usage("SHELL wants a JSON list"))?,
        "USER" => run.user = rest.to_owned(),
        "WORKDIR" => run.working_dir = rest.to_owned(),
        "STOPSIGNAL" => run.stop_signal = Some(rest.to_owned()),
        "EXPOSE" => run.exposed_ports.extend(words(rest)?.into_iter().map(|port| protocol(&port))),
        "VOLUME" => run.volumes.extend(words(rest)?),
        "ENV" => {
            for (name, value) in pairs(rest)? {
                run.env.retain(|entry| entry.split_once('=').is_none_or(|(other, _)| other != name));
                run.env.push(format!("{name}={value}"));
            }
        }
        "LABEL" => run.labels.extend(pairs(rest)?),
        _ => {
            return Err(Failure::usage(format!("instruction {} cannot be used here", quoted(instruction)))
                .hint("CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, SHELL, STOPSIGNAL, USER, VOLUME and WORKDIR can"));
        }
    }
    Ok(())
}

/// The exec form, a JSON list, or the shell form.
fn command(text: &str) -> Result<Vec<String>> {
    match serde_json::from_str(text) {
        Ok(words) => Ok(words),
        Err(_) if text.starts_with('[') => Err(Failure::usage("the list is not valid JSON")),
        Err(_) => Ok(["/bin/sh", "-c", text].map(str::to_owned).to_vec()),
    }
}

/// A JSON list or words.
fn words(text: &str) -> Result<Vec<String>> {
    match serde_json::from_str(text) {
        Ok(words) => Ok(words),
        Err(_) => shlex::split(text).ok_or_else(|| Failure::usage("a quote is not closed")),
    }
}

fn protocol(port: &str) -> String {
    if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") }
}

/// `name=value ...`, or the old form `name value`.
fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    let words = shlex::split(text).ok_or_else(|| Failure::usage("a quote is not closed"))?;
    if let Some(first) = words.first()
        && !first.contains('=')
    {
        let (name, value) = text.split_once(char::is_whitespace).ok_or_else(|| Failure::usage("a value is missing"))?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::usage(format!("{} is not name=value", quoted(word)))),
    };
    words.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_read_like_a_dockerfile() {
        let mut run = RunConfig::default();
        for change in [
            "CMD [\"sh\", \"-l\"]",
            "entrypoint echo hi",
            "ENV A=1 B=\"two words\"",
            "ENV A three more",
            "EXPOSE 80 53/udp",
            "LABEL x=y",
            "USER  me ",
            "VOLUME [\"/a\", \"/b\"]",
            "WORKDIR /srv",
            "STOPSIGNAL SIGINT",
        ] {
            apply(&mut run, change).unwrap();
        }
        assert_eq!(run.cmd, ["sh", "-l"]);
        assert_eq!(run.entrypoint, ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(run.env, ["B=two words", "A=three more"]);
        assert_eq!(run.exposed_ports.iter().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!((&*run.user, &*run.working_dir, run.volumes.len()), ("me", "/srv", 2));
        for change in ["", "CMD", "RUN x", "ENV A", "ENV =1", "LABEL 'x", "CMD [x"] {
            assert!(apply(&mut run, change).is_err(), "{change}");
        }
    }
}
