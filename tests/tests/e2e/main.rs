//! End to end: the real binary under the real clients, each case on an engine
//! of its own. Cases written once run under `conex` and under `docker`.
//!
//! One program on purpose: every test program is another link.

mod attach;
mod bad_input;
mod changes;
mod churn;
mod contexts;
mod control;
mod cp;
mod crowd;
mod daemon;
mod damage;
mod disk;
mod dns;
mod dns_survival;
mod exec;
mod export;
mod full_disk;
mod health;
mod hostile_tar;
mod images;
mod import;
mod init;
mod isolation;
mod lifecycle;
mod limits;
mod load;
mod manifest;
mod network;
mod network_publish;
mod network_survival;
mod network_user;
mod podman;
mod power;
mod registry;
mod registry_faults;
mod registry_helpers;
mod registry_proxies;
mod registry_push;
mod restart;
mod return_of_daemon;
mod roots;
mod run;
mod save;
mod shell;
mod stats;
mod storage;
mod streams;
mod terminal;
mod tls;
mod tour;
mod tour_services;
mod update;
mod volumes;
mod wire;
