//! Fuzzing without instrumentation, so that it runs wherever the tests do. Inputs are mutated at random; those with an
//! outcome that has not been observed before are mutated further.
//!
//! Each target runs for `WYNEOS_FUZZ_SECONDS` (1 by default, which keeps a run of all tests short). For a longer run,
//! use `WYNEOS_FUZZ_SECONDS=600 cargo test --release fuzz`. `WYNEOS_FUZZ_SEED` repeats a run.

use std::{
    collections::BTreeSet,
    env,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    panic::{self, AssertUnwindSafe},
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, TryRng as _, rngs::SysRng};
use rand_pcg::Pcg64Mcg;

/// Maximum time for one input: a reader that takes longer could be used to stall a server.
const PATIENCE: Duration = Duration::from_secs(2);

/// Maximum length of an input, in bytes.
const LENGTH: usize = 64 * 1024;

/// Maximum number of inputs retained for further mutation.
const CORPUS: usize = 4_096;

/// Maximum number of mutations of one input.
const ALTERATIONS: u32 = 6;

/// Boundary values that often break readers.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'[', b'\n'];

fn from_env(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

fn alter(rng: &mut Pcg64Mcg, input: &mut Vec<u8>, other: &[u8]) {
    let at = |rng: &mut Pcg64Mcg, length: usize| rng.random_range(0..length.max(1));
    let place = at(rng, input.len());
    match rng.random_range(0..8) {
        0 if !input.is_empty() => input[place] ^= 1 << rng.random_range(0..8),
        1 if !input.is_empty() => input[place] = EDGES[at(rng, EDGES.len())],
        2 if !input.is_empty() => input[place] = rng.random(),
        3 => input.insert(place.min(input.len()), rng.random()),
        4 if !input.is_empty() => drop(input.remove(place)),
        5 => input.truncate(place),
        6 => {
            let from = at(rng, other.len());
            let to = from + at(rng, other.len() - from + 1);
            let piece = other.get(from..to).unwrap_or_default().to_vec();
            drop(input.splice(place.min(input.len())..place.min(input.len()), piece));
        }
        _ => {
            let to = place + at(rng, input.len() - place + 1);
            let piece = input.get(place..to).unwrap_or_default().to_vec();
            input.extend(piece);
        }
    }
    input.truncate(LENGTH);
}

/// Passes inputs derived from `seeds` to `target` for the configured time. The return value of `target` is the outcome:
/// inputs with a new outcome are retained.
///
/// # Panics
/// Panics if `target` does or takes too long, and reports the input.
#[allow(clippy::panic)]
pub fn run<T: std::fmt::Debug>(name: &str, seeds: &[Vec<u8>], target: impl Fn(&[u8]) -> T) {
    let seconds = from_env("WYNEOS_FUZZ_SECONDS").unwrap_or(1);
    let drawn = || SysRng.try_next_u64().unwrap_or_default();
    let seed = from_env("WYNEOS_FUZZ_SEED").unwrap_or_else(drawn);
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let mut corpus = vec![Vec::new()];
    corpus.extend(seeds.iter().cloned());
    let mut outcomes = BTreeSet::new();
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut runs = 0u64;
    let mut next = corpus.clone();
    while Instant::now() < until || runs < corpus.len() as u64 {
        let input = next.pop().unwrap_or_else(|| {
            let mut input = corpus[rng.random_range(0..corpus.len())].clone();
            let other = corpus[rng.random_range(0..corpus.len())].clone();
            for _ in 0..rng.random_range(1..=ALTERATIONS) {
                alter(&mut rng, &mut input, &other);
            }
            input
        });
        let began = Instant::now();
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| target(&input)));
        let took = began.elapsed();
        runs += 1;
        let Ok(outcome) = outcome else {
            panic!("{name}: a panic, seed {seed}, by the input {}", hex(&input));
        };
        assert!(
            took < PATIENCE,
            "{name}: {took:?}, seed {seed}, for the input {}",
            hex(&input)
        );
        let mut hasher = DefaultHasher::new();
        format!("{outcome:?}").hash(&mut hasher);
        if outcomes.insert(hasher.finish()) && corpus.len() < CORPUS {
            corpus.push(input);
        }
    }
    println!("{name}: {runs} inputs, {} outcomes, seed {seed}", outcomes.len());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
