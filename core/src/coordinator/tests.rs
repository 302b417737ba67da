mod access;
mod commands;
mod cycles;
mod interleavings;
mod relays;
mod rig;
mod sessions;
mod workloads;
