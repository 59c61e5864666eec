terraform {
  required_version = ">= 1.11.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }

  # Bucket, key and region come from -backend-config: terraform/README.md.
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}
