//! Network coordinates: positions in a space in which the distance between two nodes estimates their round-trip time,
//! also for pairs that never probed one another.
//!
//! Vivaldi (Dabek, Cox, Kaashoek, Morris, SIGCOMM 2004) with a height for the access link, section 5.4. The constants
//! are Serf's, and so is the pull to the origin (Ledlie, Gardner, Seltzer, NSDI 2007).

use std::time::Duration;

/// Dimensions of a position, without the height.
pub const DIMENSIONS: usize = 8;

/// Gain of one measurement, on the position and on the error.
const GAIN: f64 = 0.25;

/// Maximum error, and the error of a node without measurements.
const ERROR_MAX: f64 = 1.5;

/// Minimum height, seconds.
const HEIGHT_MIN: f64 = 10e-6;

/// Scale of the pull to the origin, which prevents the drift of all coordinates; seconds.
const GRAVITY: f64 = 150.0;

/// Minimum distance, seconds.
const ZERO: f64 = 1.0e-6;

/// Maximum measured round-trip time and maximum component of a coordinate, seconds.
const FARTHEST: f64 = 10.0;

/// The network coordinate of a node, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coordinate {
    /// Position in the space.
    pub position: [f64; DIMENSIONS],
    /// Delay of the access link; at least 10 µs.
    pub height: f64,
    /// Relative error, as the node estimates it; 0 to 1.5.
    pub error: f64,
}

impl Default for Coordinate {
    /// The origin.
    fn default() -> Coordinate {
        Coordinate {
            position: [0.0; DIMENSIONS],
            height: HEIGHT_MIN,
            error: ERROR_MAX,
        }
    }
}

impl Coordinate {
    /// Creates a coordinate; `None` if a number is not finite or out of range.
    pub fn new(position: [f64; DIMENSIONS], height: f64, error: f64) -> Option<Coordinate> {
        let near = |number: &f64| number.abs() <= FARTHEST;
        let valid =
            position.iter().all(near) && (0.0..=FARTHEST).contains(&height) && (0.0..=ERROR_MAX).contains(&error);
        let height = height.max(HEIGHT_MIN);
        valid.then_some(Coordinate {
            position,
            height,
            error,
        })
    }

    /// Returns the estimated round-trip time to `other`.
    pub fn distance(&self, other: &Coordinate) -> Duration {
        Duration::from_secs_f64(self.raw_distance(other))
    }

    fn raw_distance(&self, other: &Coordinate) -> f64 {
        magnitude(&difference(&self.position, &other.position)) + self.height + other.height
    }

    /// Applies a measurement: a probe of the node at `other` took `rtt`. `axis` (below [`DIMENSIONS`]) is the direction
    /// in which two nodes at the same position are separated.
    pub fn update(&mut self, other: &Coordinate, rtt: Duration, axis: usize) {
        let rtt = rtt.as_secs_f64().clamp(ZERO, FARTHEST);
        let distance = self.raw_distance(other);
        let wrongness = (distance - rtt).abs() / rtt;
        let weight = self.error / (self.error + other.error).max(ZERO);
        let blend = GAIN * weight;
        self.error = (self.error * (1.0 - blend) + wrongness * blend).min(ERROR_MAX);
        self.push(GAIN * weight * (rtt - distance), other, axis);
        let origin = Coordinate::default();
        let out = self.raw_distance(&origin);
        let pull = -(out / GRAVITY) * (out / GRAVITY);
        self.push(pull, &origin, axis);
    }

    /// Moves the coordinate away from `other` by `force` seconds.
    fn push(&mut self, force: f64, other: &Coordinate, axis: usize) {
        let apart = difference(&self.position, &other.position);
        let size = magnitude(&apart);
        let mut unit = [0.0; DIMENSIONS];
        if size > ZERO {
            unit = apart.map(|part| part / size);
            let height = (self.height + other.height) * force / size + self.height;
            self.height = height.clamp(HEIGHT_MIN, FARTHEST);
        } else {
            unit[axis % DIMENSIONS] = 1.0;
        }
        for (part, unit) in self.position.iter_mut().zip(unit) {
            *part = (*part + unit * force).clamp(-FARTHEST, FARTHEST);
        }
    }

    /// Returns whether the coordinate has moved far enough from `told` to be reported: by more than 100 µs, and by more
    /// than a twentieth of the distance of `told` from the origin.
    pub fn moved_from(&self, told: &Coordinate) -> bool {
        let moved = magnitude(&difference(&self.position, &told.position)) + (self.height - told.height).abs();
        let reach = magnitude(&told.position) + told.height;
        moved > 100e-6 && moved > reach / 20.0
    }
}

fn difference(one: &[f64; DIMENSIONS], other: &[f64; DIMENSIONS]) -> [f64; DIMENSIONS] {
    std::array::from_fn(|at| one[at] - other[at])
}

fn magnitude(vector: &[f64; DIMENSIONS]) -> f64 {
    vector.iter().map(|part| part * part).sum::<f64>().sqrt()
}
