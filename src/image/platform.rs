//! Platforms: which of an index's images runs here.
//!
//! Choosing is pure; only [`Platform::host`] looks at the processor. A variant
//! is a level: a machine of one level runs everything of the levels below
//! (arm v7 runs v6 and v5, amd64 v3 runs v2 and v1), and the highest that runs
//! is chosen.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::descriptor::Descriptor;
use super::quote::quoted;
use crate::error::{Failure, Result};

/// An operating system, an architecture and perhaps its variant, in the words
/// of the image spec (those of Go: `linux/amd64`, `linux/arm/v7`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `amd64`, `arm64`, `arm`, `386`, `riscv64`, ...
    #[serde(default)]
    pub architecture: String,
    /// `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform `text` names: `os/architecture[/variant]`, or an
    /// architecture alone. Names of other worlds (x86_64, aarch64) are taken.
    pub fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let legal = |part: &&str| {
            !part.is_empty()
                && part.len() <= 32
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        };
        let (os, architecture, variant) = match parts.as_slice() {
            all if !all.iter().all(legal) => (None, "", None),
            [architecture] => (Some("linux"), *architecture, None),
            [os, architecture] => (Some(*os), *architecture, None),
            [os, architecture, variant] => (Some(*os), *architecture, Some(*variant)),
            _ => (None, "", None),
        };
        let Some(os) = os else {
            return Err(Failure::usage(format!("platform {} is not os/architecture[/variant]", quoted(text)))
                .hint("for example linux/amd64 or linux/arm/v7"));
        };
        Ok(Self::normal(&os.to_lowercase(), &architecture.to_lowercase(), variant.map(str::to_lowercase).as_deref()))
    }

    /// This machine's.
    pub fn host() -> Self {
        let variant = match std::env::consts::ARCH {
            "arm" => Some("v7"),
            _ => None,
        };
        Self::normal(std::env::consts::OS, std::env::consts::ARCH, variant)
    }

    /// One spelling for each platform, as containerd's `platforms` has it:
    /// amd64 without a variant is v1, arm64 is v8, arm is v7.
    fn normal(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, variant) = match (architecture, variant) {
            ("x86_64" | "x86-64" | "amd64", Some("v1")) => ("amd64", None),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", Some("v8" | "8")) => ("arm64", None),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("armhf", None) => ("arm", Some("v7")),
            ("armel", None) => ("arm", Some("v6")),
            ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("6")) => ("arm", Some("v6")),
            ("x86" | "i386" | "i686", variant) => ("386", variant),
            ("powerpc64le", variant) => ("ppc64le", variant),
            ("loongarch64", variant) => ("loong64", variant),
            other => other,
        };
        Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.map(str::to_owned) }
    }

    fn normalised(&self) -> Self {
        Self::normal(&self.os, &self.architecture, self.variant.as_deref().filter(|variant| !variant.is_empty()))
    }

    /// How well an image for `image` runs where `self` is asked for: higher is
    /// better, `None` is not at all.
    fn rank(&self, image: &Self) -> Option<u32> {
        let (wanted, image) = (self.normalised(), image.normalised());
        if wanted.os != image.os || wanted.architecture != image.architecture {
            return None;
        }
        if wanted.variant == image.variant {
            return Some(u32::MAX);
        }
        let level = |platform: &Self| match platform.variant.as_deref() {
            None if platform.architecture == "arm64" => Some(8),
            None => Some(1),
            Some(variant) => variant.strip_prefix('v').and_then(|level| level.parse::<u32>().ok()),
        };
        // "v8.1" and the like have no place in the order: only equal matches.
        let (have, needs) = (level(&wanted)?, level(&image)?);
        (needs < have).then_some(needs)
    }

    /// Whether an image that says it is for `image` runs where `self` is asked
    /// for. An image that does not say is taken at its word.
    pub fn accepts(&self, image: &Self) -> bool {
        image.architecture.is_empty() || image.os.is_empty() || self.effective().rank(image).is_some()
    }

    /// The entry of an index to use.
    pub fn select<'a>(&self, manifests: &'a [Descriptor]) -> Result<&'a Descriptor> {
        let wanted = self.effective();
        let mut best: Option<(u32, &Descriptor)> = None;
        for manifest in manifests {
            let rank = manifest.platform.as_ref().and_then(|platform| wanted.rank(platform));
            // The first of equals wins: the index's order is its author's preference.
            if let Some(rank) = rank
                && best.is_none_or(|(best, _)| rank > best)
            {
                best = Some((rank, manifest));
            }
        }
        if let Some((_, manifest)) = best {
            return Ok(manifest);
        }
        // An index of one entry that names no platform means that one.
        if let [only] = manifests
            && only.platform.is_none()
        {
            return Ok(only);
        }
        let mut exist: Vec<String> = manifests
            .iter()
            .filter_map(|m| m.platform.as_ref())
            .filter(|p| p.is_real())
            .map(|p| p.to_string())
            .collect();
        exist.sort();
        exist.dedup();
        exist.truncate(20);
        let failure = Failure::not_found(format!("there is no image for platform {self}"));
        Err(match exist.first() {
            None => failure,
            Some(first) => failure.hint(format!("it exists for {}; choose with --platform {first}", exist.join(", "))),
        })
    }

    /// What `self` stands for when images are chosen: this machine runs what
    /// its processor can.
    fn effective(&self) -> Self {
        if *self == Self::host() { host_with_level() } else { self.clone() }
    }

    /// Attestations sit in an index under the platform `unknown/unknown`.
    fn is_real(&self) -> bool {
        self.os != "unknown" && !self.os.is_empty()
    }
}

/// The host with the level of its processor. Not part of [`Platform::host`]:
/// people and image configs say `linux/amd64`.
fn host_with_level() -> Platform {
    let mut host = Platform::host();
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        // The levels of the x86-64 psABI, as far as std can tell the features.
        let v2 =
            has!("cmpxchg16b") && has!("popcnt") && has!("sse3") && has!("sse4.1") && has!("sse4.2") && has!("ssse3");
        let v3 = v2 && has!("avx") && has!("avx2") && has!("bmi1") && has!("bmi2") && has!("fma") && has!("lzcnt");
        let v4 = v3 && has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
        let level = [v2, v3, v4].iter().filter(|level| **level).count();
        host.variant = [None, Some("v2"), Some("v3"), Some("v4")].get(level).copied().flatten().map(str::to_owned);
    }
    host
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.variant.as_deref().filter(|variant| !variant.is_empty()) {
            Some(variant) => format!("{}/{}/{variant}", self.os, self.architecture),
            None => format!("{}/{}", self.os, self.architecture),
        };
        // An image's own words may hold anything.
        let plain = text.chars().all(|c| c.is_ascii_graphic()) && text.len() <= 120;
        if plain { f.write_str(&text) } else { f.write_str(&quoted(&text)) }
    }
}

impl FromStr for Platform {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Digest;

    fn index(platforms: &[&str]) -> Vec<Descriptor> {
        let entry = |text: &&str| Descriptor {
            platform: Some(Platform::parse(text).unwrap()),
            ..Descriptor::new("application/vnd.oci.image.manifest.v1+json", Digest::of(text.as_bytes()), 2)
        };
        platforms.iter().map(entry).collect()
    }

    fn check(wanted: &str, platforms: &[&str], expected: Option<&str>) {
        let manifests = index(platforms);
        let found = Platform::parse(wanted).unwrap().select(&manifests).ok().map(|found| found.digest);
        assert_eq!(found, expected.map(|text| Digest::of(text.as_bytes())), "{wanted} in {platforms:?}");
    }

    #[test]
    fn chooses_the_best_that_runs() {
        check("linux/amd64", &["linux/arm64", "linux/amd64"], Some("linux/amd64"));
        check("linux/arm64/v8", &["linux/amd64", "linux/arm64"], Some("linux/arm64"));
        check("linux/arm", &["linux/arm/v6", "linux/arm/v7", "linux/arm/v5"], Some("linux/arm/v7"));
        check("linux/arm/v6", &["linux/arm/v5", "linux/arm/v7"], Some("linux/arm/v5"));
        check("linux/arm/v5", &["linux/arm/v7"], None);
        check("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], Some("linux/amd64/v2"));
        check("linux/riscv64", &["linux/amd64"], None);
        check("windows/amd64", &["linux/amd64"], None);
        check("x86_64", &["linux/amd64"], Some("linux/amd64"));
    }

    #[test]
    fn names_what_exists() {
        let manifests = index(&["linux/s390x", "linux/arm64", "unknown/unknown"]);
        let failure = Platform::parse("linux/riscv64").unwrap().select(&manifests).unwrap_err();
        assert_eq!(failure.to_string(), "there is no image for platform linux/riscv64");
        assert_eq!(failure.hints, ["it exists for linux/arm64, linux/s390x; choose with --platform linux/arm64"]);
    }

    #[test]
    fn prints_as_it_reads() {
        for text in ["linux/amd64", "linux/arm64", "linux/arm/v6", "linux/amd64/v3", "linux/ppc64le"] {
            assert_eq!(Platform::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "/", "a/b/c/d", "linux/", "linux/a b", "linux/\u{1b}"] {
            assert!(Platform::parse(text).is_err(), "{text}");
        }
        assert!(Platform::host().accepts(&Platform::host()));
    }
}
