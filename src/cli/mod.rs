//! The program's command line: it serves, puts load on servers, follows channels, sends, and checks
//! databases.

mod url;
mod load;
mod client;
pub mod run;
