//! Countries and networks from databases in MaxMind's format: a driver, with feature `geoip`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use maxminddb::{MaxMindDbError, Reader};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Labels;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot read the address database `{path}`: {source}; expected a file in MaxMind's format, \
     such as GeoLite2-Country.mmdb or GeoLite2-ASN.mmdb"
)]
pub struct GeoIpError {
    path: PathBuf,
    source: MaxMindDbError,
}

/// Databases of countries and of autonomous systems; either may be missing.
#[derive(Default)]
pub struct GeoIp {
    countries: Option<Reader<Vec<u8>>>,
    networks: Option<Reader<Vec<u8>>>,
}

impl GeoIp {
    /// Reads the databases that are named, whole, into memory.
    ///
    /// # Errors
    /// [`GeoIpError`] names the file that is missing or is something else.
    pub fn open(countries: Option<&Path>, networks: Option<&Path>) -> Result<Self, GeoIpError> {
        let read = |path: &Path| {
            let failed = |source| GeoIpError { path: path.to_owned(), source };
            Reader::open_readfile(path).map_err(failed)
        };
        Ok(Self {
            countries: countries.map(read).transpose()?,
            networks: networks.map(read).transpose()?,
        })
    }
}

#[derive(Deserialize)]
struct Place {
    country: Option<Country>,
}

#[derive(Deserialize)]
struct Country {
    iso_code: Option<String>,
}

#[derive(Deserialize)]
struct Network {
    autonomous_system_number: Option<u32>,
    autonomous_system_organization: Option<String>,
}

/// What the database says of `address`; a record that is damaged says nothing.
fn look_up<T: DeserializeOwned>(reader: Option<&Reader<Vec<u8>>>, address: IpAddr) -> Option<T> {
    reader?.lookup(address).ok()?.decode().ok()?
}

impl Labels for GeoIp {
    fn country(&self, address: IpAddr) -> Option<String> {
        look_up::<Place>(self.countries.as_ref(), address)?.country?.iso_code
    }

    fn network(&self, address: IpAddr) -> Option<(u32, String)> {
        let found: Network = look_up(self.networks.as_ref(), address)?;
        let name = found.autonomous_system_organization.unwrap_or_default();
        Some((found.autonomous_system_number?, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The public test databases beside the workspace; `None` where there are none.
    fn database(name: &str) -> Option<PathBuf> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
        let path = workspace.parent()?.join("shared/data/geoip").join(name);
        path.exists().then_some(path)
    }

    #[test]
    fn addresses_are_found_in_the_test_databases() {
        let (Some(countries), Some(networks)) =
            (database("GeoLite2-Country-Test.mmdb"), database("GeoLite2-ASN-Test.mmdb"))
        else {
            return;
        };
        let databases = GeoIp::open(Some(&countries), Some(&networks)).unwrap();
        let country = |text: &str| databases.country(text.parse().unwrap());
        assert_eq!(country("2.125.160.217").as_deref(), Some("GB"));
        assert_eq!(country("2001:260::1").as_deref(), Some("JP"));
        assert_eq!(country("127.0.0.1"), None);
        let network = databases.network("1.128.0.1".parse().unwrap()).unwrap();
        assert_eq!(network, (1221, "Telstra Pty Ltd".to_owned()));
        let none = GeoIp::default();
        assert_eq!(none.country("2.125.160.217".parse().unwrap()), None);
    }

    #[test]
    fn what_is_no_database_is_refused_with_its_name() {
        let error = GeoIp::open(Some(Path::new(file!())), None).err();
        let missing = GeoIp::open(None, Some(Path::new("/nowhere/at-all.mmdb"))).err().unwrap();
        assert!(missing.to_string().contains("/nowhere/at-all.mmdb"), "{missing}");
        assert!(error.is_some());
        let Some(broken) = database("MaxMind-DB-test-broken-search-tree-24.mmdb") else { return };
        // Opening may succeed: what is broken says nothing, and nothing panics.
        if let Ok(databases) = GeoIp::open(Some(&broken), None) {
            for number in 0..2000_u32 {
                let address = IpAddr::from((number << 20).to_be_bytes());
                assert_eq!(databases.country(address), None);
            }
        }
    }
}
