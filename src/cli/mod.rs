//! The program's command line: it serves, puts load on servers, follows channels, sends, and looks at databases.

mod url;
mod load;
mod client;
pub mod run;
