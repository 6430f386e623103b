//! `hapax offline`: what can be done to a data folder that no server holds.

use hapax_server::offline::DataFolder;
use serde_json::json;

use super::admin::say_check;
use super::context::Context;
use super::serve::{blocking, unusable};
use crate::args::{self, Offline};
use crate::exit::Failure;
use crate::secrets::random_password;
use crate::server::variable;

/// Works on a data folder.
pub(super) async fn run(context: &Context, offline: &Offline) -> Result<(), Failure> {
    match offline {
        Offline::Check { folder, read_data } => {
            let (folder, read_data) = (named(context, folder), *read_data);
            let report = blocking(move || folder.check(read_data).map_err(|error| unusable(&error))).await?;
            say_check(context, &report)
        }
        Offline::ResetPassword { folder, user } => {
            let given = variable("HAPAX_NEW_PASSWORD");
            let password = match &given {
                Some(given) => given.clone(),
                None => random_password()?,
            };
            let (folder, name, new) = (named(context, folder), user.clone(), password.clone());
            blocking(move || folder.reset_password(&name, &new).map_err(|error| unusable(&error))).await?;
            let line = match given {
                Some(_) => format!("{user} has another password"),
                None => format!("{user} has another password: {password}"),
            };
            context.screen.result(&line, &json!({ "event": "password", "user": user, "password": password }));
            Ok(())
        }
    }
}

fn named(context: &Context, folder: &args::DataFolder) -> DataFolder {
    DataFolder {
        data: folder.data.clone().unwrap_or_else(|| context.places.data().to_owned()),
        keys: folder.keys.clone(),
        master_key_file: folder.master_key_file.clone(),
    }
}
