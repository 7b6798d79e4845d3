//! Containers: what a client asks for, what inspect and list answer, and the options of each verb.

mod archive;
mod change;
mod config;
mod endpoint;
mod host_config;
mod inspect;
mod mount;
mod options;
mod stats;
mod str_slice;
mod summary;
mod wait;

pub use crate::object::Empty;
pub use archive::{
    ExtractOptions, FilesystemChange, GO_DEVICE, GO_DIRECTORY, GO_SYMLINK, PATH_STAT_HEADER,
    PathStat, go_mode,
};
pub use change::{PruneReport, UpdateResponse};
pub use config::{Config, CreateRequest, CreateResponse, HealthConfig};
pub use endpoint::{EndpointIpamConfig, EndpointSettings, NetworkingConfig, PortBinding, PortMap};
pub use host_config::{
    DeviceMapping, DeviceRequest, HostConfig, LogConfig, RestartPolicy, ThrottleDevice, Ulimit,
    WeightDevice,
};
pub use inspect::{
    DriverData, Health, HealthcheckResult, Inspect, NetworkSettings, RootFsSnapshot, RootFsStorage,
    State, Storage,
};
pub use mount::{
    BindOptions, DriverConfig, ImageOptions, Mount, MountPoint, TmpfsOptions, VolumeOptions,
};
pub use options::{
    AttachOptions, ListOptions, LogsOptions, ParseWaitConditionError, RemoveOptions, StopOptions,
    WaitCondition,
};
pub use stats::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Stats,
    StatsMode, ThrottlingData,
};
pub use str_slice::StrSlice;
pub use summary::{HealthSummary, Port, Summary, SummaryHostConfig, SummaryNetworkSettings, Top};
pub use wait::{WaitExitError, WaitResponse};
