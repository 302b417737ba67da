mod commands;
mod cycles;
mod interleavings;
mod rig;
mod sessions;
