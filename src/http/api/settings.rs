//! `/settings`: the configuration in force, who changed it, and reading it again.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::super::auth::{Admin, Viewer};
use super::super::error::{ApiError, ErrorDocument, ErrorKind};
use super::fields::CheckedFields;
use super::page::{Data, List, PageParams, PageRequest, data};
use super::reads::Reads;
use super::record::RecordDocument;
use crate::audit::Kind;
use crate::flow::{Applied, ConfigRequest, NotApplied, Reloads};
use crate::http::listener::tls::{CertificateState, Certificates};
use crate::store::RecordsAsked;

/// One key of the configuration.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Setting {
    /// Its whole name.
    #[schema(example = "braze.timeout")]
    pub key: String,
    /// The value in force as the file would write it; `(secret)` where a secret is set. Of files only the name.
    #[schema(example = "1500ms")]
    pub value: String,
    /// `file`, or `default` where the file does not set it.
    pub source: &'static str,
    /// The line of the file.
    pub line: Option<usize>,
    /// What the file says, where that takes effect at the next start; empty where the file leaves the key out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
}

/// One API key, by its name.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SettingsKey {
    /// Who holds it.
    pub name: String,
    /// `viewer` or `admin`.
    pub role: &'static str,
}

/// The configuration in force.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Settings)]
pub struct SettingsDocument {
    /// Names this content: the same settings always have the same version.
    version: String,
    /// The version of the rule set, as calls carry it.
    ruleset: String,
    /// The version of the program.
    program: &'static str,
    /// When it came into force.
    loaded_at: Timestamp,
    /// Every key, in the order of the example file.
    settings: Vec<Setting>,
    /// The API keys.
    keys: Vec<SettingsKey>,
    /// Keys whose value in the file takes effect at the next start.
    needs_restart: Vec<String>,
}

impl SettingsDocument {
    /// A document of `settings`, which name its version.
    pub fn new(
        ruleset: String,
        loaded_at: Timestamp,
        settings: Vec<Setting>,
        keys: Vec<SettingsKey>,
        needs_restart: Vec<String>,
    ) -> Self {
        let mut content = Sha256::new();
        for setting in &settings {
            content.update(format!("{}={}\n", setting.key, setting.value));
        }
        for key in &keys {
            content.update(format!("key {}={}\n", key.name, key.role));
        }
        let mut version = hex::encode(content.finalize());
        version.truncate(12);
        Self {
            version,
            ruleset,
            program: env!("CARGO_PKG_VERSION"),
            loaded_at,
            settings,
            keys,
            needs_restart,
        }
    }
}

/// The configuration in force, and how it stands with the certificate.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in super::super) struct SettingsNow {
    #[serde(flatten)]
    document: SettingsDocument,
    /// The certificate that is served; null where this process speaks no TLS.
    certificate: Option<CertificateState>,
}

/// The configuration in force, replaceable as a whole. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ShownSettings {
    document: Arc<ArcSwap<SettingsDocument>>,
    certificates: Option<Arc<Certificates>>,
}

impl ShownSettings {
    pub fn new(document: SettingsDocument) -> Self {
        Self {
            document: Arc::new(ArcSwap::from_pointee(document)),
            certificates: None,
        }
    }

    /// Shows how it stands with these certificates, too.
    pub fn with_certificates(self, certificates: Option<Arc<Certificates>>) -> Self {
        Self {
            certificates,
            ..self
        }
    }

    /// Shows another configuration from now on.
    pub fn replace(&self, document: SettingsDocument) {
        self.document.store(Arc::new(document));
    }

    /// The configuration in force now.
    pub(in super::super) fn current(&self) -> SettingsNow {
        SettingsNow {
            document: SettingsDocument::clone(&self.document.load()),
            certificate: self.certificates.as_ref().map(|of_tls| of_tls.state()),
        }
    }
}

/// What the database holds.
#[derive(Serialize, ToSchema)]
pub(super) struct DatabaseFacts {
    /// What it takes on the disk.
    bytes: u64,
    /// Audit records.
    records: i64,
    /// When the oldest of them was made.
    oldest: Option<Timestamp>,
}

/// The last backup that the command of that name made.
#[derive(Serialize, ToSchema)]
#[schema(as = Backup)]
pub(super) struct BackupFacts {
    /// When it was complete.
    created_at: Timestamp,
    /// Its size.
    bytes: u64,
    /// How many audit records it has, from the first on.
    records: i64,
    /// The SHA-256 of the file, in hexadecimal digits.
    sha256: String,
}

/// Where the audit log was signed last.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditFacts {
    /// How many records were signed, from the first on.
    records: u64,
    /// The hash of the last of them, in hexadecimal digits.
    head: String,
}

/// The configuration in force, and what the installation holds.
#[derive(Serialize, ToSchema)]
#[schema(as = InForce)]
pub(in super::super) struct InstallationDocument {
    #[serde(flatten)]
    settings: SettingsNow,
    database: DatabaseFacts,
    /// Null where none is known of.
    #[schema(nullable)]
    backup: Option<BackupFacts>,
    /// Null until it was signed in this run.
    #[schema(nullable)]
    audit: Option<AuditFacts>,
}

/// The configuration in force: every key with its value and where that comes from. Secrets are not in it.
#[utoipa::path(
    get,
    path = "/settings",
    responses((status = 200, description = "The configuration.", body = Data<InstallationDocument>))
)]
pub(super) async fn current(
    _: Viewer,
    State(settings): State<ShownSettings>,
    State(reads): State<Reads>,
) -> Result<Response, ApiError> {
    Ok(data(InstallationDocument::now(&settings, &reads).await?))
}

impl InstallationDocument {
    pub(super) async fn now(settings: &ShownSettings, reads: &Reads) -> Result<Self, ApiError> {
        let counts = reads.ask(reads.store.counts()).await?;
        let oldest = match counts.oldest_record {
            Some(id) => reads.ask(reads.store.records(id - 1, 1)).await?,
            None => Vec::new(),
        };
        let backup = reads.store.last_backup().await;
        let head = reads.store.signing_status().head;
        Ok(Self {
            settings: settings.current(),
            database: DatabaseFacts {
                bytes: reads.store.size_bytes(),
                records: counts.records,
                oldest: oldest.first().map(|record| record.at),
            },
            backup: backup.map(|backup| BackupFacts {
                created_at: backup.created_at,
                bytes: backup.bytes,
                records: backup.records,
                sha256: backup.sha256,
            }),
            audit: head.map(|head| AuditFacts {
                records: head.records,
                head: head.head,
            }),
        })
    }
}

/// Who changed what, when: changes of the configuration, newest first.
#[utoipa::path(
    get,
    path = "/settings/changes",
    params(PageParams),
    responses((status = 200, description = "A page of changes.", body = List<RecordDocument>))
)]
pub(super) async fn changes(
    _: Viewer,
    State(reads): State<Reads>,
    mut fields: CheckedFields,
) -> Result<Response, ApiError> {
    let page = PageRequest::read(&mut fields);
    fields.verdict()?;
    let wanted = RecordsAsked {
        kind: Some(Kind::ConfigChanged),
        ..RecordsAsked::default()
    };
    let rows = reads.records(wanted, page.part()).await?;
    Ok(page.list(rows, RecordDocument::new))
}

/// Has the configuration file and its secrets read again, as SIGHUP does. A file with something wrong changes nothing.
#[utoipa::path(
    post,
    path = "/settings/reload",
    responses(
        (status = 200, description = "What is different now.", body = Data<Applied>),
        (status = 400, description = "The file is refused; `details.problems` says everything that is wrong.", body = ErrorDocument),
        (status = 409, description = "This process was started without a file.", body = ErrorDocument),
    )
)]
pub(super) async fn reload(
    Admin(holder): Admin,
    State(reloads): State<Reloads>,
) -> Result<Response, ApiError> {
    let by = holder.as_asking();
    let applied = reloads.ask(by, ConfigRequest::Reload).await;
    let message = "The configuration file is refused; the one before stays in force.";
    applied
        .map(data)
        .map_err(|error| not_applied(error, message))
}

/// Why another configuration did not come into force; `refused` is said where something is wrong with it.
pub(super) fn not_applied(error: NotApplied, refused: &'static str) -> ApiError {
    match error {
        NotApplied::Refused(why) => {
            let problems = serde_json::to_value(&why.problems).unwrap_or_default();
            ApiError::new(ErrorKind::Validation, refused).with("problems", problems)
        }
        NotApplied::Conflict(why) => ApiError::new(ErrorKind::Conflict, why),
        NotApplied::Forbidden(why) => ApiError::new(ErrorKind::Permission, why),
        NotApplied::NoFile => ApiError::new(
            ErrorKind::Conflict,
            "This process was started without a configuration file.",
        ),
        NotApplied::Busy => ApiError::new(
            ErrorKind::Unavailable,
            "The configuration cannot be read again now; try again in a moment.",
        ),
    }
}
