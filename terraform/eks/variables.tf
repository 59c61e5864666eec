variable "region" {
  description = "AWS region of the cluster."
  type        = string
}

variable "cluster" {
  description = "Its name: the output `cluster` of aws/."
  type        = string
}

variable "site" {
  description = "File of the values that values-prod.yaml marks as SET; the output `values` of aws/ has most of them."
  type        = string
}

variable "namespace" {
  description = "Where the chart is installed: `namespace` of aws/, whose roles are for its service accounts."
  type        = string
  default     = "features"
}

variable "repository" {
  description = "The feature repository whose plan is installed."
  type        = string
  default     = "flights"
}

variable "install" {
  description = "Install the chart too: make the secrets first (docs/runbooks/install.md)."
  type        = bool
  default     = false
}

variable "traces" {
  description = "Send traces to X-Ray, by a collector that is installed for it. X-Ray counts them: terraform/README.md."
  type        = bool
  default     = false
}
