//! Keys of every kind and form that clusters have, made by OpenSSL as their makers do.

use std::process::Command;

use super::*;

/// What `openssl` prints for these arguments, given `input`.
fn openssl(arguments: &str, input: &str) -> String {
    let dir = tempfile::tempdir().expect("temp dir");
    let file = dir.path().join("in.pem");
    std::fs::write(&file, input).expect("written");
    let arguments = arguments.split(' ').map(|word| match word {
        "IN" => file.to_str().expect("a path"),
        word => word,
    });
    let output = Command::new("openssl").args(arguments).output();
    let output = output.expect("openssl runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("PEM")
}

/// Name, the private key in its several forms, the algorithm.
fn keys() -> Vec<(&'static str, Vec<String>, &'static str)> {
    let curves = [
        ("prime256v1", "ES256"),
        ("secp384r1", "ES384"),
        ("secp521r1", "ES512"),
    ];
    let mut keys = Vec::new();
    for (curve, algorithm) in curves {
        let sec1 = openssl(&format!("ecparam -genkey -name {curve}"), "");
        let pkcs8 = openssl("pkcs8 -topk8 -nocrypt -in IN", &sec1);
        keys.push((curve, vec![sec1, pkcs8], algorithm));
    }
    let pkcs8 = openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048", "");
    let pkcs1 = openssl("rsa -traditional -in IN", &pkcs8);
    keys.push(("rsa", vec![pkcs8, pkcs1], "RS256"));
    keys
}

#[test]
fn every_kind_and_form_signs_and_verifies() {
    let claims = json!({"sub": "somebody"});
    for (name, forms, algorithm) in keys() {
        let public = openssl("pkey -pubout -in IN", &forms[0]);
        let all: Vec<Keys> = forms
            .iter()
            .map(|form| Keys::new(form, std::slice::from_ref(&public)).expect(name))
            .collect();
        for keys in &all {
            let token = keys.sign(&claims);
            for verifier in &all {
                assert_eq!(verifier.verify(&token), Some(claims.clone()), "{name}");
            }
            let jwks = keys.jwks();
            assert_eq!(
                jwks["keys"].as_array().map(Vec::len),
                Some(1),
                "one key in all its forms has one name"
            );
            assert_eq!(jwks["keys"][0]["alg"], algorithm);
        }
    }
}

/// Another program reads what is published and agrees with the signature.
#[test]
fn what_is_published_verifies_elsewhere() {
    // The library knows no ES512.
    for (name, forms, _) in keys().into_iter().filter(|key| key.2 != "ES512") {
        let keys = Keys::new(&forms[0], &[]).expect(name);
        let token = keys.sign(&json!({"sub": "somebody", "exp": 4_000_000_000_u64}));
        let jwk = serde_json::from_value(keys.jwks()["keys"][0].clone()).expect("a JWK");
        let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).expect(name);
        let header = jsonwebtoken::decode_header(&token).expect("a header");
        let mut validation = jsonwebtoken::Validation::new(header.alg);
        validation.validate_aud = false;
        let read = jsonwebtoken::decode::<Value>(&token, &key, &validation);
        assert_eq!(read.expect(name).claims["sub"], "somebody");
    }
}

#[test]
fn a_token_that_names_another_algorithm_is_refused() {
    let all = keys();
    let keys = Keys::new(&all[3].1[0], &[all[0].1[0].clone()]).expect("keys");
    let token = keys.sign(&json!({"sub": "somebody"}));
    assert!(keys.verify(&token).is_some());
    let (_, rest) = token.split_once('.').expect("parts");
    for algorithm in ["none", "HS256", "ES256", "RS384", "rs256"] {
        for kid in [Value::Null, keys.signing_id.clone().into()] {
            let header = json!({"alg": algorithm, "kid": kid}).to_string();
            let forged = format!("{}.{rest}", BASE64URL.encode(header));
            assert_eq!(keys.verify(&forged), None, "{algorithm}");
        }
    }
}

#[test]
fn keys_that_are_not_good_enough_are_refused_in_words() {
    let good = &keys()[0].1[0];
    let short = openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024", "");
    let short = openssl("pkey -pubout -in IN", &short);
    let other = openssl("ecparam -genkey -name secp256k1", "");
    let other = openssl("ec -pubout -in IN", &other);
    let edwards = openssl("genpkey -algorithm ed25519", "");
    let edwards_public = openssl("pkey -pubout -in IN", &edwards);
    for bad in [&short, &other, &edwards_public] {
        let error = Keys::new(good, std::slice::from_ref(bad));
        assert!(matches!(error, Err(KeyError::Kind(_))), "{bad}");
    }
    assert!(matches!(Keys::new(&edwards, &[]), Err(KeyError::Kind(_))));
    for bad in ["", "no key", &edwards_public] {
        assert!(matches!(Keys::new(bad, &[]), Err(KeyError::Pem(_))));
    }
    let nothing = Keys::new(good, &[String::new()]);
    assert!(matches!(nothing, Err(KeyError::Pem(_))), "an empty file");
}

/// A certificate's key is trusted, too.
#[test]
fn keys_of_certificates_are_trusted() {
    let all = keys();
    let certificate = openssl("req -x509 -key IN -subj /CN=signer -days 1", &all[3].1[0]);
    let signer = Keys::new(&all[3].1[1], &[]).expect("keys");
    let other = Keys::new(&all[0].1[0], &[certificate]).expect("keys");
    assert!(other.verify(&signer.sign(&json!({}))).is_some());
}
