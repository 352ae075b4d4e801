#pragma once
// /app/ (the page, built from web/ into a folder) and /desktop/ (NEST Desktop from its own package, pointed at this
// server). No token is needed to load them: they hold no secret; what they call asks for one.

#include <string>

#include "api/context.hpp"
#include "http/message.hpp"

namespace myelin::api::pages {

async::Task<http::Response> app(Context& context, http::Request request);
async::Task<http::Response> desktop(Context& context, http::Request request);

/// NEST Desktop's index.html with the script that points it here put before its own.
[[nodiscard]] std::string pointed_here(const std::string& index_html);

}  // namespace myelin::api::pages
