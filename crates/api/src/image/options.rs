//! Options of the image verbs, read from the query by the server and obeyed by the engine.

use crate::filters::Filters;

/// Options of `GET /images/json`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListOptions {
    /// Whether intermediate images are listed too.
    pub all: bool,
    /// Which images to list.
    pub filters: Filters,
    /// Whether shared sizes are computed.
    pub shared_size: bool,
    /// Whether digests are asked for; the answer always has them.
    pub digests: bool,
    /// Whether the manifests of each image are listed.
    pub manifests: bool,
}

/// Options of `DELETE /images/{name}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Whether an image with several names or stopped containers goes too.
    pub force: bool,
    /// Whether untagged parents stay.
    pub noprune: bool,
}

/// Options of `POST /images/create?fromSrc=`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Where the archive is: `-` for the request's body, or a URL.
    pub source: String,
    /// Repository of the new image; empty leaves it unnamed.
    pub repo: String,
    /// Tag of the new image.
    pub tag: String,
    /// Commit message; empty is Docker's `Imported from ...`.
    pub message: String,
    /// Dockerfile instructions applied to the new image's configuration.
    pub changes: Vec<String>,
    /// Platform, `os[/arch[/variant]]`.
    pub platform: Option<String>,
}

/// Options of `POST /images/load`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Whether the layers' progress is left out.
    pub quiet: bool,
    /// Platforms to load, each as JSON or `os[/arch[/variant]]`; empty loads what there is.
    pub platforms: Vec<String>,
}

/// Options of `GET /images/get`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaveOptions {
    /// Names or ids of the images.
    pub names: Vec<String>,
    /// Platforms they must be for, each as JSON or `os[/arch[/variant]]`; empty takes any.
    pub platforms: Vec<String>,
}

/// Options of `POST /images/create?fromImage=`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullOptions {
    /// The image's name, perhaps with a tag or digest.
    pub image: String,
    /// A tag or digest; empty takes the name's, and without one all tags.
    pub tag: String,
    /// Platform, `os[/arch[/variant]]`.
    pub platform: Option<String>,
    /// The header `X-Registry-Auth`; empty is nobody.
    pub auth: String,
}

/// Options of `POST /images/{name}/push`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushOptions {
    /// A tag; empty takes the name's, and without one all tags.
    pub tag: String,
    /// The platform the image must be for, as JSON of the image specification.
    pub platform: Option<String>,
    /// `gzip` or `zstd`: what every layer is to be sent as; empty: in any form the registry can have it.
    pub compression: String,
    /// The header `X-Registry-Auth`; empty is nobody.
    pub auth: String,
    /// The header `X-Registry-Config`: credentials of other registries, from which layers may have to come again.
    pub other_auths: String,
}
