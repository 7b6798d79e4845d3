//! `conex container …`: commands on containers.

pub mod attach;
pub mod create;
mod escape;
pub mod exec;
pub mod inspect;
pub mod kill;
pub mod logs;
pub mod ls;
mod options;
pub mod pause;
pub mod port;
mod ports;
pub mod rename;
pub mod restart;
pub mod rm;
pub mod run;
mod session;
mod several;
mod signal;
pub mod start;
pub mod stop;
mod terminal;
pub mod top;
pub mod unpause;
pub mod wait;
