//! Whom a certificate names (RFC 5280 section 4.2.1.6).
//!
//! `proxy` reads them off a client certificate, which TLS has found to be good before.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

/// Whom a certificate names, and whether it still counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// DNS names, URIs and e-mail addresses; the common name only where there are no alternative names at all (RFC 6125
    /// section 6.4.4).
    pub names: Vec<String>,
    /// Whether it was valid at the moment that was asked about. A session that is resumed brings a certificate whose
    /// time was checked when the session began.
    pub is_valid: bool,
}

/// Reads the names off `der`; `unix_seconds` is now. `None`: it is no certificate.
#[must_use]
pub fn named(der: &[u8], unix_seconds: u64) -> Option<Named> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let now = ASN1Time::from_timestamp(i64::try_from(unix_seconds).ok()?).ok()?;
    let alternatives = certificate.subject_alternative_name().ok()?;
    let names = match alternatives {
        Some(alternatives) => alternatives.value.general_names.iter().filter_map(text).collect(),
        None => certificate
            .subject()
            .iter_common_name()
            .filter_map(|name| name.as_str().ok().map(ToOwned::to_owned))
            .collect(),
    };
    Some(Named { names, is_valid: certificate.validity().is_valid_at(now) })
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
            Some((*name).to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

    use super::*;

    fn read(alternatives: Vec<SanType>) -> Named {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "orders");
        params.subject_alt_names = alternatives;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2030, 1, 1);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        named(certificate.der(), IN_2025).unwrap()
    }

    const IN_2025: u64 = 1_750_000_000;

    #[test]
    fn a_certificate_is_known_by_its_alternative_names() {
        let read = read(vec![
            SanType::DnsName("orders.internal".try_into().unwrap()),
            SanType::URI("spiffe://example.org/orders".try_into().unwrap()),
            SanType::Rfc822Name("orders@example.org".try_into().unwrap()),
            SanType::IpAddress("10.0.0.1".parse().unwrap()),
        ]);
        assert_eq!(read.names, ["orders.internal", "spiffe://example.org/orders", "orders@example.org"]);
        assert!(read.is_valid);
    }

    #[test]
    fn the_common_name_counts_only_where_there_is_no_other_kind() {
        assert_eq!(read(vec![]).names, ["orders"]);
        assert!(read(vec![SanType::IpAddress("10.0.0.1".parse().unwrap())]).names.is_empty());
    }

    #[test]
    fn a_certificate_out_of_its_time_and_what_is_none_are_told() {
        let mut params = CertificateParams::new(["a".to_owned()]).unwrap();
        params.not_after = date_time_ymd(2024, 1, 1);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert!(!named(certificate.der(), IN_2025).unwrap().is_valid);
        assert_eq!(named(b"nothing of the kind", IN_2025), None);
    }
}
