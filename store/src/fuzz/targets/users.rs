//! What a user shows to say who it is.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corten_store_core::Store;

use super::super::run;
use super::{nothing, state};
use crate::services::tokens;

/// Seconds since 1970 at which the token is shown.
const NOW: i64 = 10;

#[test]
fn tokens_with_and_without_a_good_seal() {
    let (store, _writer) = Store::open(state::state()).expect("opened");
    let auth = store.auth();
    let token = tokens::give(&auth, "ada", 0, Duration::from_secs(300)).expect("she is there");
    assert_eq!(tokens::check(&auth, &token, NOW).as_deref(), Some("ada"));
    let whole = URL_SAFE_NO_PAD.decode(&token).expect("our encoding");
    let said = whole[..whole.len() - 32].to_vec();
    run("tokens", &[said, whole.clone()], nothing, |bytes| {
        // With the key of the cluster anything can be said; still only users are believed to be there.
        let owner = tokens::check(&auth, &tokens::sealed(&auth, bytes.to_vec()), NOW);
        if let Some(name) = owner {
            assert!(auth.user(&name).is_some(), "{name} is nobody");
        }
        if bytes == whole {
            return;
        }
        let shown = [
            URL_SAFE_NO_PAD.encode(bytes),
            String::from_utf8_lossy(bytes).into_owned(),
        ];
        for shown in shown {
            assert_eq!(tokens::check(&auth, &shown, NOW), None, "nobody sealed it");
        }
    });
}
