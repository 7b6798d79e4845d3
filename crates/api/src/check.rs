//! What `system check` and `image verify` find: routes of this engine's own,
//! `GET /conex/check`, `POST /conex/repair`, `GET /conex/images/{name}/verify`.

object! {
    /// Answer of a check.
    #[serde(rename_all = "PascalCase")]
    pub struct Report {
        /// What is not as it should be.
        pub findings: Vec<Finding>,
        /// Images looked at.
        pub images: u64,
        /// Layers looked at.
        pub layers: u64,
        /// Containers looked at.
        pub containers: u64,
    }

    /// One thing that is not as it should be.
    #[serde(rename_all = "PascalCase")]
    pub struct Finding {
        /// What kind of thing, in a word for programs: `layer-without-record`.
        pub kind: String,
        /// The id or name it concerns.
        pub object: String,
        /// Where it is.
        pub path: String,
        /// A sentence about it.
        pub message: String,
        /// Whether it has been put right.
        pub repaired: bool,
        /// Whether it is only told, and nothing is wrong.
        pub note: bool,
    }

    /// Answer of a verification.
    #[serde(rename_all = "PascalCase")]
    pub struct Verification {
        /// Every layer once.
        pub layers: Vec<VerifiedLayer>,
    }

    /// What became of one layer.
    #[serde(rename_all = "PascalCase")]
    pub struct VerifiedLayer {
        /// Digest of the chain up to it.
        pub chain_id: String,
        /// Digest of its archive.
        pub diff_id: String,
        /// Ids of the images that have it.
        pub images: Vec<String>,
        /// The file that is damaged or gone, if one was found.
        pub file: String,
        /// What is wrong; empty when nothing is.
        pub problem: String,
    }
}
