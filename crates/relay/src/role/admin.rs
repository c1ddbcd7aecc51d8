//! What the listener for operators shows of this process.

use std::sync::Arc;

use crate::{
    observe::logs::{Filter, LevelHandle},
    server::{
        App,
        admin::{Admin, ExplainPage, LogLevelPage, Page, ProbePage},
    },
    settings::Settings,
};

pub(super) fn pages(settings: &Settings, app: &Arc<App>) -> Arc<Admin> {
    let mut pages: Vec<Arc<dyn Page>> = Vec::new();
    // A relay in somebody else's process has no log of its own.
    if let Some(level) = LevelHandle::of_process() {
        let configured = Filter::of(settings.log_level);
        pages.push(Arc::new(LogLevelPage::new(level, configured)));
    }
    pages.push(Arc::new(ExplainPage::new(app)));
    pages.extend(ProbePage::all(app));
    Admin::new(pages)
}
