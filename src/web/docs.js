// Draws the description, with a form for each call. No validator: that would ask a server elsewhere.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#calls",
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
